//! The binary from outside: help, exit codes, refusals, and a process from its start to its end.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use coalition_node::cli::Cli;
use coalition_rpc::auth::dev::KEY_FILE;
use tempfile::TempDir;

const PARTNER: &str = "ptr_01kaqz8x5ef0wrz5e3c2s6a7ct";

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn data_dir(&self) -> std::path::PathBuf {
        self.0.path().join("data")
    }

    /// The binary in this place, with none of our variables.
    fn coalition(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coalition"));
        command.args(arguments).current_dir(self.0.path());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("COALITION_") {
                command.env_remove(name);
            }
        }
        command.env("COALITION_DATA_DIR", self.data_dir());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.coalition(arguments).output().expect("it runs")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// Asserts that a command was refused with this exit code, and says why.
fn refused(output: &Output, code: i32, parts: &[&str]) {
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
    assert_eq!(text(&output.stdout), "", "a refusal prints no answer");
}

#[test]
fn every_command_helps_with_examples() {
    Cli::definition().debug_assert();
    let place = Place::new();
    let top = place.run(&["--help"]);
    assert!(
        text(&top.stdout).contains("Examples:"),
        "{}",
        text(&top.stdout)
    );
    for command in Cli::definition().get_subcommands() {
        let name = command.get_name();
        assert!(text(&top.stdout).contains(name), "{name}");
        let help = place.run(&[name, "--help"]);
        let help = text(&help.stdout);
        assert!(help.contains("Examples:"), "{name}: {help}");
        assert!(
            help.contains(&format!("coalition {name}")),
            "{name}: {help}"
        );
        assert!(help.contains("--database-url"), "{name}: {help}");
        assert!(
            help.lines().all(|line| line.chars().count() <= 120),
            "{name}: {help}"
        );
    }
    assert!(!place.data_dir().exists(), "help makes nothing");
}

#[test]
fn what_makes_no_sense_is_exit_code_2() {
    let place = Place::new();
    refused(
        &place.run(&["up", "--lisen", "127.0.0.1:0"]),
        2,
        &["--listen"],
    );
    refused(
        &place.run(&["--mode", "test", "up"]),
        2,
        &["sandbox", "production"],
    );
    refused(
        &place.run(&["--config", "nowhere.toml", "up"]),
        2,
        &["nowhere.toml"],
    );
    refused(
        &place.run(&["--log-filter", "a=b=c", "up"]),
        2,
        &["log.filter"],
    );
    refused(
        &place
            .coalition(&["up"])
            .env("COALITION_LOG_FORMT", "json")
            .output()
            .expect("it runs"),
        2,
        &["COALITION_LOG_FORMT", "no such setting"],
    );
    refused(
        &place.run(&["--database-url", "mysql://u:hunter2@h/d", "up"]),
        2,
        &["--database-url", "postgres://"],
    );
    refused(
        &place.run(&["up", "--listen", "7400"]),
        2,
        &["--listen", "127.0.0.1:7400"],
    );
}

#[test]
fn what_does_not_start_says_what_to_do() {
    let place = Place::new();
    refused(
        &place.run(&[
            "up",
            "--data-dir",
            "/dev/null/data",
            "--listen",
            "127.0.0.1:0",
        ]),
        1,
        &["/dev/null/data", "choose another with --data-dir"],
    );
    let nowhere = "postgres://u:hunter2@127.0.0.1:1/d";
    let output = place.run(&["up", "--database-url", nowhere, "--listen", "127.0.0.1:0"]);
    refused(&output, 1, &["127.0.0.1:1/d", "is --database-url right?"]);
    let said = text(&output.stderr);
    assert_eq!(said.matches("Connection refused").count(), 1, "{said}");
}

#[test]
fn a_token_is_printed_alone_and_its_key_is_for_the_owner() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let output = place.run(&[
        "token",
        "--role",
        "pos",
        "--partner",
        PARTNER,
        "--expires",
        "30m",
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let token = text(&output.stdout);
    assert_eq!(token.trim_end().split('.').count(), 3, "{token}");
    assert_eq!(token.lines().count(), 1);
    let key = place.data_dir().join(KEY_FILE);
    let mode = key.metadata().expect("made").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mode = place
        .data_dir()
        .metadata()
        .expect("made")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_token_that_nobody_would_accept_is_not_made() {
    let place = Place::new();
    let rows: [(&[&str], i32, &str); 6] = [
        (&["token", "--role", "pos"], 1, "--partner ptr_"),
        (
            &["token", "--role", "operator_viewer", "--partner", PARTNER],
            1,
            "leave out --partner",
        ),
        (
            &["token", "--role", "pos", "--role", "operator_maker"],
            1,
            "make two",
        ),
        (&["token", "--role", "cashier"], 2, "operator_checker"),
        (&["token", "--role", "pos", "--partner", "mem_x"], 2, "ptr_"),
        (
            &["token", "--role", "operator_maker", "--expires", "0s"],
            2,
            "a second at least",
        ),
    ];
    for (arguments, code, part) in rows {
        refused(&place.run(arguments), code, &[part]);
    }
    let production = place.run(&["--mode", "production", "token", "--role", "operator_maker"]);
    refused(&production, 1, &["not for production", "identity provider"]);
    assert!(!place.data_dir().exists(), "a refusal makes nothing");
}

#[test]
fn one_role_on_sqlite_is_refused_with_the_way_out() {
    let place = Place::new();
    for role in ["earn", "redeem", "settlement", "network", "worker"] {
        let usual = place.run(&[role]);
        refused(
            &usual,
            1,
            &[
                &format!("coalition {role}"),
                "SQLite",
                "coalition up",
                "postgres://",
            ],
        );
        let named = place.run(&[role, "--database-url", "sqlite:books.db"]);
        refused(
            &named,
            1,
            &["sqlite:books.db", "coalition up", "coalition migrate"],
        );
    }
    assert!(!place.data_dir().exists(), "a refusal makes nothing");
}

#[test]
fn production_makes_no_keys_of_its_own() {
    let place = Place::new();
    let up = ["--mode", "production", "up", "--listen", "127.0.0.1:0"];
    refused(&place.run(&up), 1, &["auth.jwks", "COALITION_AUTH_JWKS"]);

    // With a key set, the next thing that is missing.
    let jwks = place.0.path().join("jwks.json");
    std::fs::write(
        &jwks,
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","kid":"a",
        "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#,
    )
    .expect("written");
    let output = place
        .coalition(&up)
        .env("COALITION_AUTH_JWKS", &jwks)
        .output()
        .expect("it runs");
    refused(
        &output,
        1,
        &[
            "keys.identifier",
            "openssl rand -hex 32",
            "COALITION_KEYS_IDENTIFIER",
        ],
    );
    assert!(!place.data_dir().exists(), "a refusal makes nothing");

    // With everything from outside it runs, and still makes no key.
    let key = "5a".repeat(32);
    let mut command = place.coalition(&up);
    command
        .env("COALITION_AUTH_JWKS", &jwks)
        .env("COALITION_KEYS_IDENTIFIER", &key)
        .env("COALITION_KEYS_PAGE_TOKEN", &key);
    let mut process = Process::started(command);
    process.signal("TERM");
    assert_eq!(process.child.wait().expect("it ends").code(), Some(0));
    let made = std::fs::read_dir(place.data_dir()).expect("the database is there");
    for file in made {
        let name = file.expect("readable").file_name();
        assert!(
            name.to_string_lossy().starts_with("coalition.db"),
            "{name:?}"
        );
    }
    // The database keeps its mode.
    let sandbox = place.run(&["up", "--listen", "127.0.0.1:0"]);
    refused(&sandbox, 1, &["in production", "sandbox"]);
}

#[test]
fn a_database_is_set_up_verified_and_never_made_by_mistake() {
    let place = Place::new();
    refused(&place.run(&["verify"]), 1, &["there is no database"]);
    assert!(!place.data_dir().exists(), "verify makes nothing");

    for _ in 0..2 {
        let migrated = place.run(&["migrate"]);
        assert!(migrated.status.success(), "{}", text(&migrated.stderr));
        assert!(
            text(&migrated.stdout).contains("0.01 EUR"),
            "{}",
            text(&migrated.stdout)
        );
    }
    let verified = place.run(&["verify"]);
    assert!(verified.status.success(), "{}", text(&verified.stderr));
    assert!(text(&verified.stdout).starts_with("Books balance: 0 transactions"));

    let other = place
        .coalition(&["migrate"])
        .env("COALITION_NETWORK_FACE_VALUES", r#"{EUR = "0.02"}"#)
        .output()
        .expect("it runs");
    refused(&other, 1, &["0.02", "0.01"]);
}

/// A process that is told to end when the test does.
struct Process {
    child: Child,
    endpoint: String,
}

impl Process {
    fn up(place: &Place) -> Self {
        Self::started(place.coalition(&["up", "--listen", "127.0.0.1:0"]))
    }

    fn started(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let ready = lines.next().expect("a line").expect("text");
        let endpoint = ready.rsplit(' ').next().expect("words").to_owned();
        assert!(
            ready.contains("ready") && endpoint.starts_with("http://127.0.0.1:"),
            "{ready}"
        );
        Self { child, endpoint }
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .expect("a shell")
                .success()
        );
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails where it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_process_starts_says_where_it_is_and_ends_when_told() {
    let place = Place::new();
    for signal in ["TERM", "INT"] {
        let mut process = Process::up(&place);
        assert!(Path::new(&place.data_dir().join("coalition.db")).exists());

        let second = place.run(&["up", "--listen", "127.0.0.1:0"]);
        refused(&second, 1, &["coalition.db"]);
        let address = process
            .endpoint
            .strip_prefix("http://")
            .expect("an address")
            .to_owned();
        let same_port = Place::new().run(&["up", "--listen", &address]);
        refused(&same_port, 1, &["cannot listen on", &address, "--listen"]);

        process.signal(signal);
        let ended = process.child.wait().expect("it ends");
        assert_eq!(ended.code(), Some(0), "{signal}");
    }
    let verified = place.run(&["verify"]);
    assert!(verified.status.success(), "{}", text(&verified.stderr));
}
