//! The processes of a network under test: started at addresses that stay theirs, so that each can
//! end and come back while its callers go on calling.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use tokio::time::{Instant, interval, timeout};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::network::connect;
use crate::process::{Coalition, Serving};

/// Longest that a process may take from its start to its health saying that it serves.
pub const READY_MAX: Duration = Duration::from_secs(5);

/// How often health is asked for until then.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Longest that anybody waits for a process that should be ready: the promise is checked, and a
/// failure says by how much it was missed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest that a command that prints an answer may take.
const COMMAND_MAX: Duration = Duration::from_mins(1);

/// Ports that the system does not give to those who do not ask for one.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// The services, each in a process of its own; the worker is not called.
const SERVICES: [&str; 4] = ["earn", "redeem", "settlement", "network"];

/// A process of a network: which command it runs, where, and whether it runs now.
#[derive(Debug)]
pub struct Process {
    /// The command: `up`, or a role.
    pub name: &'static str,
    address: String,
    folder: PathBuf,
    settings: Vec<(String, String)>,
    serving: Option<Serving>,
}

impl Process {
    fn new(name: &'static str, port: u16, folder: &Path, database: Option<&str>) -> Self {
        let database = database.map(|url| ("COALITION_DATABASE_URL".to_owned(), url.to_owned()));
        Self {
            name,
            address: format!("127.0.0.1:{port}"),
            folder: folder.to_owned(),
            settings: database.into_iter().collect(),
            serving: None,
        }
    }

    /// Where it answers.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Starts it; how long it took until its own health said that it serves.
    pub async fn start(&mut self) -> Duration {
        let begun = Instant::now();
        let mut command = Coalition::new([self.name, "--listen", &self.address])
            .env("COALITION_DATA_DIR", &self.folder)
            .env("COALITION_LOG_FORMAT", "json");
        for (name, value) in &self.settings {
            command = command.env(name, value);
        }
        let started = command.start().await;
        self.serving = Some(started.unwrap_or_else(|run| panic!("{run:?}")));
        until_serving(&self.endpoint(), "").await;
        begun.elapsed()
    }

    /// Ends it from one moment to the next.
    pub async fn kill(&mut self) {
        self.serving.take().expect("it runs").kill().await;
    }

    /// Tells it to stop: how it ended, after how long, and what it had logged.
    pub async fn terminate(&mut self) -> (ExitStatus, Duration, String) {
        self.serving.take().expect("it runs").terminate().await
    }
}

/// All processes of a network.
#[derive(Debug)]
pub struct Fleet {
    /// In the order in which they were started: the one that clients call is the last.
    pub processes: Vec<Process>,
}

impl Fleet {
    /// One process with all roles.
    pub async fn one(folder: &Path, database: &str, rng: &mut fastrand::Rng) -> Self {
        let mut up = Process::new("up", free_port(rng), folder, Some(database));
        up.start().await;
        let processes = vec![up];
        Self { processes }
    }

    /// A process for each role, on a database that is set up first.
    pub async fn split(folder: &Path, database: &str, rng: &mut fastrand::Rng) -> Self {
        let migrate = Coalition::new(["migrate", "--database-url", database]);
        let migrate = migrate.env("COALITION_DATA_DIR", folder);
        migrate.run(COMMAND_MAX).await.assert_code(0);
        let mut processes = Vec::new();
        let mut gateway = Process::new("gateway", free_port(rng), folder, None);
        for name in SERVICES.into_iter().chain(["worker"]) {
            let mut process = Process::new(name, free_port(rng), folder, Some(database));
            process.start().await;
            if name != "worker" {
                let variable = format!("COALITION_UPSTREAMS_{}", name.to_uppercase());
                gateway.settings.push((variable, process.endpoint()));
            }
            processes.push(process);
        }
        gateway.start().await;
        processes.push(gateway);
        Self { processes }
    }

    /// Where clients call.
    pub fn endpoint(&self) -> String {
        self.processes
            .last()
            .expect("there is a process")
            .endpoint()
    }

    /// Tells all to stop, those first that clients call.
    pub async fn stop(mut self) {
        while let Some(mut process) = self.processes.pop() {
            let (status, after, log) = process.terminate().await;
            assert!(
                status.success(),
                "{}: {status} after {after:?}\n{log}",
                process.name
            );
        }
    }
}

/// Waits until whoever answers at `endpoint` says that `service` serves, "" being all of it; how
/// long that took.
pub async fn until_serving(endpoint: &str, service: &str) -> Duration {
    until_health(endpoint, service, ServingStatus::Serving).await
}

/// Waits until whoever answers at `endpoint` says this of `service`; how long that took.
pub async fn until_health(endpoint: &str, service: &str, expected: ServingStatus) -> Duration {
    let begun = Instant::now();
    let mut health = HealthClient::new(connect(endpoint));
    let told = timeout(PATIENCE, async {
        let mut looks = interval(LOOK_INTERVAL);
        loop {
            looks.tick().await;
            let request = HealthCheckRequest {
                service: service.to_owned(),
            };
            let said = health.check(request).await;
            if said.is_ok_and(|said| said.into_inner().status() == expected) {
                return;
            }
        }
    });
    told.await
        .unwrap_or_else(|_| panic!("{service:?} at {endpoint} is not {expected:?}"));
    begun.elapsed()
}

/// A port that nobody listens on, and that no connection is given by chance.
fn free_port(rng: &mut fastrand::Rng) -> u16 {
    let mut ports = std::iter::repeat_with(|| rng.u16(PORTS));
    let free = ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.expect("one of thousands is free")
}
