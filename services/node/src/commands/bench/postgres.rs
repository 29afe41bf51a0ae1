//! A PostgreSQL server for one run, where its programs are installed.
//!
//! With its defaults but for the number of connections: commits are on disk before they are
//! answered. The server refuses to run as root, so root starts it as another user.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

/// Users that a server may run as if root starts it.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// Sets a cluster up, runs the server, and stops it when the input of this script ends, as it does
/// however its parent ends.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
"$1/initdb" -D "$2/data" -U coalition -A trust --encoding=UTF8 --locale=C >"$2/log" 2>&1 &&
"$1/pg_ctl" -D "$2/data" -l "$2/server.log" -w -o "-p $3 -h 127.0.0.1 -k $2 -c max_connections=300" \
    start >>"$2/log" 2>&1 && echo ready
read -r _
"$1/pg_ctl" -D "$2/data" -m immediate stop >>"$2/log" 2>&1
"#;

/// A running server; it stops, and its data go, when this is dropped.
pub(super) struct Postgres {
    url: String,
    script: Child,
    input: Option<ChildStdin>,
    _folder: TempDir,
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
        Ok(Some(Self {
            url: format!("postgres://coalition@127.0.0.1:{port}/postgres"),
            script,
            input,
            _folder: folder,
        }))
    }

    pub(super) fn url(&self) -> &str {
        &self.url
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

/// The folder of `initdb` and `pg_ctl`: on the path, or where Debian puts them, the newest.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
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
    folders.extend(debian.into_iter().rev().map(|(_, folder)| folder));
    let holds = |folder: &Path, name: &str| folder.join(name).is_file();
    folders
        .into_iter()
        .find(|folder| holds(folder, "initdb") && holds(folder, "pg_ctl"))
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
