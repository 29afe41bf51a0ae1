//! A PostgreSQL server for one run, where its programs are installed.
//!
//! It is set as the README asks of an operator ([`options`]), and its log has been round once
//! ([`TURN_LOG`]), as that of any server has that runs for a day: a fresh one fills each piece of its
//! log with zeros when that is first needed, in the middle of somebody's commit. Commits are on disk before
//! they are answered. The server refuses to run as root, so root starts it as another user. What
//! else is asked of a server (databases, sizes, settings) goes through `psql`, its log is read by
//! [`super::server_log`]. Deliberately absent: SQL on our own tables.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context as _, bail};
use tempfile::TempDir;
use url::Url;

use super::machine;

/// Users that a server may run as if root starts it.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// Sets a cluster up, runs the server, and stops it when the input of this script ends, as it does
/// however its parent ends.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
"$1/initdb" -D "$2/data" -U coalition -A trust --encoding=UTF8 --locale=C >"$2/log" 2>&1 &&
"$1/pg_ctl" -D "$2/data" -l "$2/server.log" -w -o "-p $3 -h 127.0.0.1 -k $2 $4" \
    start >>"$2/log" 2>&1 && echo ready
read -r _
"$1/pg_ctl" -D "$2/data" -m immediate stop >>"$2/log" 2>&1
"#;

/// What is not the server's default, beside its share of the memory: what the README asks for, room for
/// `pgbench`, and in its log what may hold up a call.
const OPTIONS: &str = "-c max_wal_size=8GB -c min_wal_size=2GB -c checkpoint_timeout=15min \
                       -c max_connections=300 -c log_timezone=UTC -c log_checkpoints=on \
                       -c log_autovacuum_min_duration=0";

/// The server's own cache has this part of the machine's memory, as the README asks for.
const BUFFERS_PART: u64 = 4;
/// But as much as it has by default, in MiB.
const BUFFERS_MIN_MIB: u64 = 128;

/// Makes the log go round: as many pieces as the server keeps for reuse.
const TURN_LOG: [&str; 2] = [
    "do $$ begin for piece in 1..128 loop \
     perform pg_logical_emit_message(false, 'coalition', ''); perform pg_switch_wal(); \
     end loop; end $$",
    "checkpoint",
];

/// A running server; it stops, and its data go, when this is dropped.
pub(super) struct Postgres {
    port: u16,
    script: Child,
    input: Option<ChildStdin>,
    folder: TempDir,
}

impl Postgres {
    /// Starts a server; `None` where none is installed.
    pub(super) fn start() -> anyhow::Result<Option<Self>> {
        let Some(programs) = programs() else {
            return Ok(None);
        };
        let folder = TempDir::with_prefix("coalition-bench-postgres-")?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new("sh");
        command
            .args(["-c", SCRIPT, "sh"])
            .arg(&programs)
            .arg(folder.path())
            .arg(port.to_string())
            .arg(options())
            .current_dir(folder.path())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if rustix::process::geteuid().is_root() {
            let (user, group) = unprivileged().context("root needs a user postgres or nobody")?;
            chown(folder.path(), Some(user), Some(group))?;
            command.uid(user).gid(group);
        }
        let mut script = command.spawn().context("no shell")?;
        let input = script.stdin.take();
        let output = script.stdout.take().context("a shell without an output")?;
        let said = BufReader::new(output).lines().next().transpose()?;
        if said.as_deref() != Some("ready") {
            drop(input);
            script.wait()?;
            let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            bail!("PostgreSQL in {} does not start: {log}", programs.display());
        }
        let server = Self {
            port,
            script,
            input,
            folder,
        };
        for statement in TURN_LOG {
            ask(&server.url_of("postgres"), statement)?;
        }
        Ok(Some(server))
    }

    fn url_of(&self, database: &str) -> String {
        format!("postgres://coalition@127.0.0.1:{}/{database}", self.port)
    }

    /// A new database: its URL.
    pub(super) fn create(&self, database: &str) -> anyhow::Result<String> {
        let create = format!("create database \"{database}\"");
        ask(&self.url_of("postgres"), &create)?;
        Ok(self.url_of(database))
    }

    /// What the server has logged so far.
    pub(super) fn log(&self) -> anyhow::Result<String> {
        let path = self.folder.path().join("server.log");
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.input.take());
        if let Err(error) = self.script.wait() {
            tracing::warn!(%error, "the PostgreSQL server may still run");
        }
    }
}

/// The settings of the server.
fn options() -> String {
    let buffers_mib = (machine::memory_mib() / BUFFERS_PART).max(BUFFERS_MIN_MIB);
    format!("-c shared_buffers={buffers_mib}MB {OPTIONS}")
}

/// The one value that a statement answers, as text.
pub(super) fn ask(url: &str, statement: &str) -> anyhow::Result<String> {
    let mut psql = program("psql")?;
    psql.args([
        "-X",
        "-q",
        "-A",
        "-t",
        "-v",
        "ON_ERROR_STOP=1",
        "-c",
        statement,
    ]);
    connect(&mut psql, url);
    let output = psql.output().context("psql cannot be started")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("PostgreSQL refused {statement:?}: {}", said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// One of the programs that come with a server.
pub(super) fn program(name: &str) -> anyhow::Result<Command> {
    let folder = folders()
        .into_iter()
        .find(|folder| folder.join(name).is_file())
        .with_context(|| format!("{name} is not installed (Debian: postgresql)"))?;
    Ok(Command::new(folder.join(name)))
}

/// Has a program connect to `url`. The password does not stand in the arguments, which everybody on
/// the machine can read.
pub(super) fn connect(command: &mut Command, url: &str) {
    let (url, password) = for_programs(url);
    if let Some(password) = password {
        command.env("PGPASSWORD", password);
    }
    command.arg(url);
}

/// What our own client understands in an address and PostgreSQL's programs do not, or by another name.
const OURS: [(&str, Option<&str>); 6] = [
    ("statement-cache-capacity", None),
    ("ssl-mode", Some("sslmode")),
    ("ssl-root-cert", Some("sslrootcert")),
    ("ssl-ca", Some("sslrootcert")),
    ("ssl-cert", Some("sslcert")),
    ("ssl-key", Some("sslkey")),
];

/// An address for PostgreSQL's own programs, and the password that stood in it.
fn for_programs(url: &str) -> (String, Option<String>) {
    let Ok(mut known) = Url::parse(url) else {
        // Whoever connects says what is wrong with it.
        return (url.to_owned(), None);
    };
    let mut password = known.password().map(decoded);
    let mut query = Vec::new();
    for argument in known.query().unwrap_or_default().split('&') {
        let (name, value) = argument.split_once('=').unwrap_or((argument, ""));
        let ours = OURS.iter().find(|(ours, _)| *ours == name);
        match ours.map_or(Some(name), |(_, theirs)| *theirs) {
            Some("password") => password = Some(decoded(value)),
            Some(name) if !name.is_empty() => query.push(format!("{name}={value}")),
            _ => {}
        }
    }
    // An address without a host has no password there.
    let _ = known.set_password(None);
    known.set_query((!query.is_empty()).then(|| query.join("&")).as_deref());
    (known.into(), password)
}

/// A part of an address without its percent signs.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend(before.bytes());
        let byte = after
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.unwrap_or(b'%'));
        rest = byte.map_or(after, |_| after.get(2..).unwrap_or_default());
    }
    bytes.extend(rest.bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The folder of `initdb` and `pg_ctl`.
fn programs() -> Option<PathBuf> {
    let holds = |folder: &Path, name: &str| folder.join(name).is_file();
    folders()
        .into_iter()
        .find(|folder| holds(folder, "initdb") && holds(folder, "pg_ctl"))
}

/// Where the programs of a server may be: where Debian puts them, the newest first, or on the path.
/// Not the other way round: Debian's wrappers on the path know its own clusters only.
fn folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut debian: Vec<(u32, PathBuf)> = versions
        .filter_map(|version| {
            let number = version.file_name().to_str()?.parse().ok()?;
            Some((number, version.path().join("bin")))
        })
        .collect();
    debian.sort();
    let debian = debian.into_iter().rev().map(|(_, folder)| folder);
    debian.chain(std::env::split_paths(&path)).collect()
}

/// The numbers of a user without rights, and of its group.
fn unprivileged() -> Option<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    USERS.iter().find_map(|name| {
        let entry = users
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}:")))?;
        // Password, user, group.
        let mut numbers = entry
            .split(':')
            .skip(1)
            .map_while(|number| number.parse().ok());
        Some((numbers.next()?, numbers.next()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_does_not_stand_in_arguments() {
        let cases = [
            (
                "postgres://u:p%40ss%zz@h:5432/d?sslmode=disable",
                "postgres://u@h:5432/d?sslmode=disable",
                Some("p@ss%zz"),
            ),
            (
                "postgres://u@h/d?password=p%40ss&host=/run/it",
                "postgres://u@h/d?host=/run/it",
                Some("p@ss"),
            ),
            ("postgres://u@h:5432/d", "postgres://u@h:5432/d", None),
        ];
        for (url, expected, password) in cases {
            let expected = (expected.to_owned(), password.map(str::to_owned));
            assert_eq!(for_programs(url), expected);
        }
    }

    #[test]
    fn what_only_we_understand_is_not_passed_on() {
        let cases = [
            ("?statement-cache-capacity=9", ""),
            (
                "?options=-c%20geqo=off&statement-cache-capacity=9&ssl-mode=require",
                "?options=-c%20geqo=off&sslmode=require",
            ),
        ];
        for (query, expected) in cases {
            let url = |query| format!("postgres://u@h:5432/d{query}");
            assert_eq!(for_programs(&url(query)), (url(expected), None));
        }
    }
}
