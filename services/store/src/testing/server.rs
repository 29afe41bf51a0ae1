//! PostgreSQL servers for tests, started from installed binaries: one that the tests of a process
//! share ([`start`]), and any number that a test has to itself and may crash ([`Server`]).
//!
//! A shell stands between: it starts the server, again whenever it is told to, waits until this
//! process is gone (by the end of its input, which comes however the process ends), stops the server
//! and removes its files. The server refuses to run as root: started by root, all of it runs as
//! `postgres`, or as `nobody`.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// Starts the server, and again at each line of input; at the end of input stops it and cleans up.
const WATCH: &str = r#"
trap '' INT TERM HUP
bin=$1 home=$2 port=$3
start() {
    "$bin/pg_ctl" -D "$home/data" -l "$home/server.log" -w -t 60 \
        -o "-h 127.0.0.1 -p $port -k $home -c max_connections=500 -c shared_buffers=128MB" \
        start >"$home/start.log" 2>&1 &&
    echo ready || { cat "$home"/*.log >&2; echo failed; }
}
"$bin/initdb" -D "$home/data" -U postgres -A trust -E UTF8 --locale=C --no-sync \
    >"$home/initdb.log" 2>&1 && start || { cat "$home"/*.log >&2; echo failed; }
while read -r _; do start; done
"$bin/pg_ctl" -D "$home/data" -m immediate stop >/dev/null 2>&1
rm -rf "$home"
"#;

/// How often another port is tried.
const ATTEMPTS: u32 = 5;

/// Longest that processes that were killed may take to be gone.
const GONE_MAX: Duration = Duration::from_secs(10);

/// How often a process is looked for until then.
const LOOKS: u32 = 1_000;

/// The server that the tests of this process share: it ends with the process and not before.
static SHARED: OnceLock<Server> = OnceLock::new();

/// The URL of the shared server's maintenance database, started now; `None` where there are no
/// binaries.
pub(super) fn start() -> Option<String> {
    let server = Server::start()?;
    let url = server.url();
    let _ = SHARED.set(server);
    Some(url)
}

/// A server that a test has to itself, with its data on disk and `fsync` on. Stopped and removed
/// when it is dropped, or when this process ends, however it does.
#[derive(Debug)]
pub struct Server {
    folder: PathBuf,
    port: u16,
    /// The watching shell: what it hears, and what it says.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    shell: Child,
}

impl Server {
    /// A new server; `None` where there are no binaries.
    #[must_use]
    pub fn start() -> Option<Self> {
        let bin = binaries()?;
        let mut attempts = (0..ATTEMPTS).filter_map(|_| start_on_free_port(&bin));
        let server = attempts.next();
        Some(
            server.unwrap_or_else(|| {
                panic!("the PostgreSQL server in {} does not start", bin.display())
            }),
        )
    }

    /// The URL of its maintenance database.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Ends all its processes from one moment to the next, as a failing machine would, and waits
    /// until they are gone. What it had told the disk to keep is there for [`Self::restart`].
    pub fn crash(&self) {
        let postmaster = self.postmaster();
        let children = children_of(postmaster);
        kill(&[postmaster]);
        kill(&children);
        let all = children.into_iter().chain([postmaster]);
        all.for_each(wait_until_gone);
        // Where nobody buries the dead at once, the server that starts next takes a zombie for its
        // living predecessor.
        let socket = self.folder.join(format!(".s.PGSQL.{}.lock", self.port));
        for lock in [self.folder.join("data").join("postmaster.pid"), socket] {
            let _ = std::fs::remove_file(lock);
        }
    }

    /// Ends the process behind one connection to `database`, if there is one: the server then throws
    /// all others out too and recovers by itself, since shared memory may be damaged.
    pub fn crash_one(&self, database: &str) {
        let serves = |process: &u32| {
            let title = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&title).contains(&format!(" {database} "))
        };
        let mut processes = children_of(self.postmaster());
        processes.retain(serves);
        processes.truncate(1);
        kill(&processes);
        processes.into_iter().for_each(wait_until_gone);
    }

    /// Starts it again on the same data, and waits until it accepts connections.
    pub fn restart(&mut self) {
        let told = self.input.as_mut().map(|input| input.write_all(b"start\n"));
        told.expect("the shell listens")
            .expect("the shell is there");
        assert!(is_ready(&mut self.output), "the server does not recover");
    }

    fn postmaster(&self) -> u32 {
        let file = std::fs::read_to_string(self.folder.join("data").join("postmaster.pid"));
        let file = file.expect("a server that runs says who it is");
        let first = file
            .lines()
            .next()
            .and_then(|line| line.trim().parse().ok());
        first.expect("its process id")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Without its input the shell stops the server, and cleans up.
        drop(self.input.take());
        let _ = self.shell.wait();
    }
}

/// Ends processes without asking them; those that are gone already are no trouble.
fn kill(processes: &[u32]) {
    if !processes.is_empty() {
        let processes = processes.iter().map(u32::to_string);
        let mut shell = Command::new("sh");
        shell.args(["-c", "kill -9 \"$@\"", "kill"]).args(processes);
        shell.stderr(Stdio::null()).status().expect("a shell");
    }
}

fn children_of(parent: u32) -> Vec<u32> {
    let parent = Some(parent.to_string());
    let processes = std::fs::read_dir("/proc")
        .expect("processes are listed")
        .flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| stat(*id).is_some_and(|(_, of)| Some(of) == parent))
        .collect()
}

/// State and parent of a process (proc(5): after the name, which is in brackets).
fn stat(process: u32) -> Option<(String, String)> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut fields = text
        .rsplit_once(')')?
        .1
        .split_whitespace()
        .map(str::to_owned);
    Some((fields.next()?, fields.next()?))
}

fn wait_until_gone(process: u32) {
    for _ in 0..LOOKS {
        // A zombie holds nothing any more; who has to bury it does so when it likes.
        if stat(process).is_none_or(|(state, _)| state == "Z") {
            return;
        }
        std::thread::park_timeout(GONE_MAX / LOOKS);
    }
    panic!("process {process} does not end");
}

fn is_ready(output: &mut BufReader<ChildStdout>) -> bool {
    let mut said = String::new();
    output.read_line(&mut said).is_ok() && said.trim() == "ready"
}

fn start_on_free_port(bin: &Path) -> Option<Server> {
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
    let input = shell.stdin.take();
    let output = shell.stdout.take().expect("it was piped");
    let mut server = Server {
        folder,
        port,
        input,
        output: BufReader::new(output),
        shell,
    };
    is_ready(&mut server.output).then_some(server)
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
