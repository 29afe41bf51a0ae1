//! A PostgreSQL server for the tests of one process, started from installed binaries.
//!
//! A shell stands between: it starts the server, waits until this process is gone (by the end of
//! its input, which comes however the process ends), stops the server and removes its files. The
//! server refuses to run as root: started by root, all of it runs as `postgres`, or as `nobody`.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;

/// Starts the server, waits for the end of input, stops it, cleans up.
const WATCH: &str = r#"
trap '' INT TERM HUP
bin=$1 home=$2 port=$3
"$bin/initdb" -D "$home/data" -U postgres -A trust -E UTF8 --locale=C --no-sync \
    >"$home/initdb.log" 2>&1 &&
"$bin/pg_ctl" -D "$home/data" -l "$home/server.log" -w -t 60 \
    -o "-h 127.0.0.1 -p $port -k $home -c max_connections=200 -c shared_buffers=128MB" \
    start >"$home/start.log" 2>&1 &&
echo ready || { cat "$home"/*.log >&2; echo failed; }
read -r _
"$bin/pg_ctl" -D "$home/data" -m immediate stop >/dev/null 2>&1
rm -rf "$home"
"#;

/// How often another port is tried.
const ATTEMPTS: u32 = 5;

/// The watching shell's input: closed by the end of this process and by nothing before.
static ALIVE: OnceLock<ChildStdin> = OnceLock::new();

/// The URL of a new server's maintenance database; `None` where there are no binaries.
pub(super) fn start() -> Option<String> {
    let bin = binaries()?;
    for _ in 0..ATTEMPTS {
        if let Some(url) = start_on_free_port(&bin) {
            return Some(url);
        }
    }
    panic!("the PostgreSQL server in {} does not start", bin.display());
}

#[expect(
    clippy::zombie_processes,
    reason = "the shell is there to outlive this process"
)]
fn start_on_free_port(bin: &Path) -> Option<String> {
    let folder = tempfile::Builder::new()
        .prefix("coalition-postgres-")
        .tempdir();
    let folder = folder.expect("a temporary folder").keep();
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = socket.local_addr().expect("a bound socket").port();
    drop(socket);
    let mut shell = Command::new("sh");
    shell
        .args(["-c", WATCH, "watch"])
        .arg(bin)
        .arg(&folder)
        .arg(port.to_string());
    shell
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .current_dir(&folder)
        .process_group(0);
    if std::fs::metadata(&folder)
        .expect("the folder just made")
        .uid()
        == 0
    {
        let (user, group) = unprivileged().expect("root, and neither postgres nor nobody");
        chown(&folder, Some(user), Some(group)).expect("root may give folders away");
        shell.uid(user).gid(group);
    }
    let mut shell = shell.spawn().expect("a shell");
    let (input, output) = (shell.stdin.take(), shell.stdout.take());
    let said = output.and_then(|output| BufReader::new(output).lines().next());
    if said.is_none_or(|line| !line.is_ok_and(|line| line == "ready")) {
        // Without its input the shell ends, and cleans up.
        drop(input);
        let _ = shell.wait();
        return None;
    }
    let _ = ALIVE.set(input.expect("it was piped"));
    Some(format!("postgres://postgres@127.0.0.1:{port}/postgres"))
}

/// Where `initdb` and `pg_ctl` are: as `pg_config` says, where Debian puts them (the newest), or on
/// the path.
fn binaries() -> Option<PathBuf> {
    let is_complete = |folder: &PathBuf| {
        ["initdb", "pg_ctl"]
            .iter()
            .all(|name| folder.join(name).is_file())
    };
    let config = Command::new("pg_config").arg("--bindir").output().ok();
    let config = config.map(|output| String::from_utf8_lossy(&output.stdout).trim().into());
    let mut debian: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|versions| {
            versions
                .flatten()
                .map(|version| version.path().join("bin"))
                .collect()
        })
        .unwrap_or_default();
    debian.sort_by_key(|bin| {
        let version = bin.parent().and_then(Path::file_name).map(OsString::from);
        std::cmp::Reverse(version.and_then(|v| v.to_str()?.parse::<u32>().ok()))
    });
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::split_paths(&path).collect::<Vec<_>>();
    config
        .into_iter()
        .chain(debian)
        .chain(path)
        .find(is_complete)
}

/// User and group to run as instead of root.
fn unprivileged() -> Option<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let find = |name: &str| {
        let fields = users
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>());
        let mut fields = fields.filter(|fields| fields.first() == Some(&name));
        let fields = fields.next()?;
        Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
    };
    find("postgres").or_else(|| find("nobody"))
}
