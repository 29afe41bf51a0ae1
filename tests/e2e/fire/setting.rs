//! The networks that are fired at: processes of the real binary.

use std::collections::BTreeMap;
use std::path::Path;

use coalition_store::testing::{Database, Engine};
use coalition_store::{PoolSettings, WINDOW_LOG};
use coalition_tests::Network;
use coalition_tests::network::START;
use coalition_tests::process::{Coalition, Serving};
use futures::future::join_all;
use tempfile::TempDir;

use crate::split::{COMMAND_MAX, role};

/// How many of each there are in the large setting.
const EACH: usize = 2;
/// The services of which there are several.
const SERVICES: [&str; 4] = ["earn", "redeem", "settlement", "network"];
/// What each process of the large setting may read with at a time: all of them share one server with
/// the other tests.
const READERS: &str = "4";

/// A network under fire.
pub(crate) struct Setting {
    /// By its first gateway.
    pub(crate) network: Network,
    /// Where its gateways answer.
    pub(crate) doors: Vec<String>,
    /// Whether all commands go through one poster, so that ids are given in the order of decisions.
    pub(crate) one_poster: bool,
    processes: Vec<Serving>,
}

impl Setting {
    /// All roles in one process.
    pub(crate) async fn one_process(engine: Engine) -> Option<Self> {
        Self::one_process_with(engine, &[]).await
    }

    /// The same with these settings, as environment variables say them.
    pub(crate) async fn one_process_with(
        engine: Engine,
        settings: &[(&str, &str)],
    ) -> Option<Self> {
        let database = Database::new(engine).await?;
        let folder = TempDir::with_prefix("coalition-fire-").expect("a temporary folder");
        let process = started(role_of("up", folder.path(), &database.url, settings)).await;
        let doors = vec![process.endpoint.clone()];
        Some(Self::of(database, folder, doors, vec![process]).await)
    }

    /// Two gateways, and two of each service.
    pub(crate) async fn two_of_each() -> Option<Self> {
        Self::two_of_each_with(&[]).await
    }

    /// The same with these settings.
    pub(crate) async fn two_of_each_with(settings: &[(&str, &str)]) -> Option<Self> {
        let database = Database::new(Engine::Postgres).await?;
        let folder = TempDir::with_prefix("coalition-fire-").expect("a temporary folder");
        let (path, url) = (folder.path(), database.url.as_str());
        let settings: Vec<(&str, &str)> = [("COALITION_LIMITS_READERS", READERS)]
            .into_iter()
            .chain(settings.iter().copied())
            .collect();
        let migrate = role_of("migrate", path, url, &settings).run(COMMAND_MAX);
        migrate.await.assert_code(0);

        let names: Vec<&str> = SERVICES.iter().flat_map(|name| [*name; EACH]).collect();
        let started_all = names
            .iter()
            .map(|name| started(role_of(name, path, url, &settings)));
        let processes: Vec<Serving> = join_all(started_all).await;
        let mut services: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
        for (place, process) in processes.iter().enumerate() {
            let name = SERVICES[place / EACH];
            services
                .entry(name)
                .or_default()
                .push(process.endpoint.clone());
        }
        let gateway = || {
            let mut gateway = Coalition::new(["gateway", "--listen", "127.0.0.1:0"])
                .env("COALITION_DATA_DIR", path);
            for (name, addresses) in &services {
                let variable = format!("COALITION_UPSTREAMS_{}", name.to_uppercase());
                gateway = gateway.env(&variable, addresses.join(","));
            }
            started(gateway)
        };
        let gateways = join_all((0..EACH).map(|_| gateway())).await;
        let doors = gateways.iter().map(|gateway| gateway.endpoint.clone());
        let doors: Vec<String> = doors.collect();
        // Gateways end first, so that nothing comes in any more.
        let processes = gateways.into_iter().chain(processes).collect();
        Some(Self::of(database, folder, doors, processes).await)
    }

    async fn of(
        database: Database,
        folder: TempDir,
        doors: Vec<String>,
        processes: Vec<Serving>,
    ) -> Self {
        let network = Network::elsewhere(&doors[0], database, folder);
        network.set_clock(START).await;
        Self {
            network,
            one_poster: doors.len() == 1,
            doors,
            processes,
        }
    }

    /// Connections to the database that all processes together may have.
    pub(crate) fn connections_max(&self) -> i64 {
        let settings = PoolSettings::default();
        let readers: u32 = if self.one_poster {
            settings.readers
        } else {
            READERS.parse().expect("a number")
        };
        let with_books = if self.one_poster {
            1
        } else {
            SERVICES.len() * EACH
        };
        i64::from(settings.units + readers) * i64::try_from(with_books).expect("few")
    }

    /// Ends all processes and removes the books; what the processes logged, one text each.
    pub(crate) async fn stop(self) -> Vec<String> {
        let mut logs = Vec::new();
        for process in self.processes {
            let (status, _, log) = process.terminate().await;
            assert!(status.success(), "{status}\n{log}");
            logs.push(log);
        }
        self.network.stop().await;
        logs
    }
}

/// The command line of a role, which tells its log how long units of work wait for the window.
fn role_of(name: &str, folder: &Path, database: &str, settings: &[(&str, &str)]) -> Coalition {
    let filter = format!("warn,{WINDOW_LOG}=debug");
    let role = match name {
        "migrate" => Coalition::new([name, "--database-url", database])
            .env("COALITION_DATA_DIR", folder)
            .env(crate::split::FACE_VALUES, crate::split::FACE_VALUES_SET),
        _ => role(name, "127.0.0.1:0", folder, database),
    };
    let role = role
        .env("COALITION_LOG_FORMAT", "json")
        .env("COALITION_LOG_FILTER", filter);
    settings
        .iter()
        .fold(role, |role, (name, value)| role.env(name, value))
}

async fn started(role: Coalition) -> Serving {
    role.start().await.unwrap_or_else(|run| panic!("{run:?}"))
}
