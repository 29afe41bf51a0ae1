//! The binary `coalition`, run in processes of its own.
//!
//! It is the one of this build: brought up to date once per test program, in the profile that the
//! tests themselves are built in.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

/// Longest that a process may take to be ready.
const READY_MAX: Duration = Duration::from_mins(1);

/// Lines of a process's log that a test that fails shows.
const TROUBLES_SHOWN: usize = 20;

/// Longest that a process that was told to stop may take: what the binary promises, and a margin for
/// a busy machine.
pub const STOP_MAX: Duration = Duration::from_secs(15);

/// Where the binary of this build is.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let folder = profile_folder();
        let mut cargo = std::process::Command::new(env!("CARGO"));
        cargo.args(["build", "--workspace", "--bin", "coalition"]);
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        let built = cargo
            .current_dir(workspace())
            .stdin(Stdio::null())
            .output()
            .expect("cargo runs: it built this test");
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );
        folder.join("coalition")
    })
}

/// The binary of the release profile, if it is there and newer than what it is made of.
pub fn release_binary() -> Option<PathBuf> {
    let target = profile_folder()
        .parent()
        .expect("profiles lie in the target folder")
        .to_owned();
    let binary = target.join("release").join("coalition");
    let built = binary.metadata().and_then(|facts| facts.modified()).ok()?;
    let folders = ["proto", "gateway", "services", "migrations"];
    let fresh = folders
        .iter()
        .all(|folder| newest(&workspace().join(folder)) <= built);
    fresh.then_some(binary)
}

/// The root of the repository.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this crate lies in a folder of it")
}

fn profile_folder() -> PathBuf {
    // target/<profile>/deps/<test program>
    let program = std::env::current_exe().expect("a program knows where it is");
    let folder = program.parent().and_then(Path::parent);
    folder
        .expect("cargo puts test programs two folders deep")
        .to_owned()
}

fn newest(folder: &Path) -> SystemTime {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let times = entries.map(|entry| {
        let path = entry.path();
        if path.is_dir() {
            newest(&path)
        } else if path
            .extension()
            .is_some_and(|end| ["rs", "proto", "sql", "toml"].iter().any(|of| end == *of))
        {
            entry
                .metadata()
                .and_then(|facts| facts.modified())
                .unwrap_or(SystemTime::UNIX_EPOCH)
        } else {
            SystemTime::UNIX_EPOCH
        }
    });
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A command line of the binary, with nothing of the environment that could configure it.
#[derive(Debug)]
pub struct Coalition {
    command: Command,
    said: String,
}

impl Coalition {
    /// `coalition` and its arguments.
    pub fn new<I>(arguments: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        Self::of(binary(), arguments)
    }

    /// Another build of `coalition`, and its arguments.
    pub fn of<I>(binary: &Path, arguments: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        let mut command = Command::new(binary);
        for (name, _) in std::env::vars_os().filter(|(name, _)| {
            name.to_str()
                .is_some_and(|name| name.starts_with("COALITION_"))
        }) {
            command.env_remove(name);
        }
        let mut said = String::from("coalition");
        for argument in arguments {
            said = format!("{said} {}", argument.as_ref().to_string_lossy());
            command.arg(argument);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        Self { command, said }
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it in this folder.
    #[must_use]
    pub fn within(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Runs it to its end.
    pub async fn run(mut self, longest: Duration) -> Run {
        let child = self
            .command
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.said));
        let output = timeout(longest, child.wait_with_output()).await;
        let output = output.unwrap_or_else(|_| panic!("{} takes too long", self.said));
        Run::of(self.said, &output.expect("its output can be read"))
    }

    /// Starts it and waits until it says that it is ready.
    ///
    /// # Errors
    ///
    /// How it ended instead.
    pub async fn start(mut self) -> Result<Serving, Run> {
        let log = Log::new();
        let mut child = self
            .command
            .stderr(log.writer())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.said));
        let mut stdout = BufReader::new(child.stdout.take().expect("its standard output is piped"));
        let mut line = String::new();
        let read = timeout(READY_MAX, stdout.read_line(&mut line)).await;
        read.unwrap_or_else(|_| panic!("{} is not ready in time\n{}", self.said, log.troubles()))
            .expect("its output can be read");
        if let Some((_, endpoint)) = line.trim_end().rsplit_once(" is ready at ") {
            return Ok(Serving {
                endpoint: endpoint.to_owned(),
                said: self.said,
                child,
                log,
            });
        }
        let output = Output {
            status: child.wait().await.expect("it has ended"),
            stdout: line.into_bytes(),
            stderr: log.read(),
        };
        Err(Run::of(self.said, &output))
    }
}

/// A command that has come to its end.
#[derive(Clone, Debug)]
pub struct Run {
    /// The command line.
    pub said: String,
    /// The exit code; none after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Run {
    fn of(said: String, output: &Output) -> Self {
        Self {
            said,
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// It must have ended with this code.
    #[track_caller]
    pub fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(
            self.code,
            Some(code),
            "{}\n{}\n{}",
            self.said,
            self.stdout,
            self.stderr
        );
        self
    }

    /// It must have said this, on either side.
    #[track_caller]
    pub fn assert_says(&self, text: &str) -> &Self {
        let said = self.stdout.contains(text) || self.stderr.contains(text);
        assert!(
            said,
            "{text:?} is not in\n{}\n{}\n{}",
            self.said, self.stdout, self.stderr
        );
        self
    }
}

/// A process that serves; killed when dropped.
#[derive(Debug)]
pub struct Serving {
    /// Where it answers.
    pub endpoint: String,
    said: String,
    child: Child,
    log: Log,
}

/// What a process says on its standard error: in a file, so that it is there however the process ends.
#[derive(Debug)]
struct Log(NamedTempFile);

impl Log {
    fn new() -> Self {
        Self(NamedTempFile::new().expect("a temporary file"))
    }

    fn writer(&self) -> std::fs::File {
        self.0.reopen().expect("it has just been made")
    }

    fn read(&self) -> Vec<u8> {
        std::fs::read(self.0.path()).expect("it is there")
    }

    /// The last of its warnings and errors.
    fn troubles(&self) -> String {
        // A test that fails already must not fail twice.
        let log = std::fs::read(self.0.path()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let mut follows_a_panic = false;
        let of_note = |line: &&str| {
            // What a panic says stands on the next line.
            let is_panic = line.contains("panicked");
            let follows = std::mem::replace(&mut follows_a_panic, is_panic);
            is_panic || follows || line.contains("WARN") || line.contains("ERROR")
        };
        let troubles: Vec<&str> = log.lines().filter(of_note).collect();
        let last = troubles.len().saturating_sub(TROUBLES_SHOWN);
        troubles[last..].join("\n")
    }
}

/// What went wrong inside is what a test that fails wants to know of.
impl Drop for Serving {
    fn drop(&mut self) {
        let troubles = std::thread::panicking().then(|| self.log.troubles());
        if let Some(troubles) = troubles.filter(|troubles| !troubles.is_empty()) {
            eprintln!("{} ({}) logged:\n{troubles}", self.said, self.endpoint);
        }
    }
}

impl Serving {
    /// The most memory that it had at any time so far.
    pub fn peak_memory_bytes(&self) -> u64 {
        let pid = self.child.id().expect("it is still running");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
        let status = status.expect("the system tells of its processes");
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        let peak = peak.and_then(|kib| kib.trim().parse::<u64>().ok());
        peak.expect("a number of kibibytes") * 1_024
    }

    /// Ends it from one moment to the next, as a failing machine would.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("it can be killed");
    }

    /// Tells it to stop, and waits until it has: how, and after how long. What it logged comes too.
    pub async fn terminate(mut self) -> (ExitStatus, Duration, String) {
        let told = Instant::now();
        let pid = self
            .child
            .id()
            .and_then(|pid| Pid::from_raw(pid.cast_signed()));
        kill_process(pid.expect("it is still running"), Signal::TERM).expect("it is ours");
        let ended = timeout(STOP_MAX, self.child.wait()).await;
        let ended = ended.unwrap_or_else(|_| panic!("{} does not stop", self.said));
        let log = String::from_utf8_lossy(&self.log.read()).into_owned();
        (ended.expect("its end can be seen"), told.elapsed(), log)
    }
}
