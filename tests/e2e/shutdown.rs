//! Processes that are told to stop while a crowd of tills is at work: what was answered is kept, what
//! was accepted is answered, and the end comes within the bound, whatever clients do.
//!
//! A try that was done and whose answer did not come gives itself away: the request, sent again, is
//! answered as a replay. There must be none of those. In some rounds clients stand in the way that
//! never let go: one that says nothing, one that is idle, one with half a request, one that does not
//! read a stream. They are cut in the end (hyper 4170: nothing else would end it), and nobody else
//! is. `COALITION_TEST_FULL=1` stops fifty times; `COALITION_TEST_SEED` names the moments.

use std::time::Duration;

use coalition_ledger::Clock as _;
use coalition_proto::policy::Role;
use coalition_rpc::auth::dev::{DevKey, TokenRequest};
use coalition_store::SystemClock;
use coalition_store::testing::{Database, Engine};
use coalition_tests::awkward::Awkward;
use coalition_tests::crowd::{Crowd, Record};
use coalition_tests::engine::{bounded_by, not_run};
use coalition_tests::fleet::{Fleet, READY_MAX};
use coalition_tests::{Network, terms};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest that one test may take, in the full form.
const SHUTDOWN_MAX: Duration = Duration::from_mins(30);

/// What a process promises: it has ended by then, whoever holds on to it.
const STOP_MAX: Duration = Duration::from_secs(10);

/// What it takes when nobody holds on to it.
const CALM_STOP_MAX: Duration = Duration::from_secs(3);

/// Answers between two stops: at least, and at most.
const ANSWERS: std::ops::Range<usize> = 20..200;

/// Longest between the last of those and the signal.
const MOMENT_MAX_US: u64 = 30_000;

/// A network under load, and what has been seen of it.
struct Scene {
    network: Network,
    fleet: Fleet,
    crowd: Crowd,
    rng: fastrand::Rng,
    checked: usize,
    stops: usize,
    worst_calm: Duration,
    worst: Duration,
    tries: usize,
}

impl Scene {
    async fn set(network: Network, fleet: Fleet, mut rng: fastrand::Rng) -> Self {
        let cafe = network
            .partner("cafe", terms::settle_at_issue("EUR", "0.01", "0.008"))
            .await;
        let salon = network
            .partner("salon", terms::settle_at_redemption("EUR", "0.01", "0.008"))
            .await;
        let crowd = Crowd::begin(&network, &[&cafe, &salon], rng.u64(..)).await;
        Self {
            network,
            fleet,
            crowd,
            rng,
            checked: 0,
            stops: 0,
            worst_calm: Duration::ZERO,
            worst: Duration::ZERO,
            tries: 0,
        }
    }

    /// Stops a process under load, and starts it again; `awkward` clients are in its way.
    async fn stop(&mut self, process: usize, awkward: &[Awkward]) {
        let what = format!(
            "stop {} of {}",
            self.stops, self.fleet.processes[process].name
        );
        let answers = self.rng.usize(ANSWERS);
        self.crowd.until_answered(answers).await;
        let in_the_way = self.stand_in_the_way(process, awkward).await;
        let moment = Duration::from_micros(self.rng.u64(..MOMENT_MAX_US));
        // There is no condition to wait for: that is the point.
        let _ = timeout(moment, std::future::pending::<()>()).await;

        let stopped = &mut self.fleet.processes[process];
        let (status, after, log) = stopped.terminate().await;
        assert_eq!(status.code(), Some(0), "{what}: {status}\n{log}");
        assert!(after <= STOP_MAX, "{what}: after {after:?}\n{log}");
        if awkward.is_empty() {
            assert!(after <= CALM_STOP_MAX, "{what}: after {after:?}\n{log}");
            self.worst_calm = self.worst_calm.max(after);
        }
        self.worst = self.worst.max(after);
        drop(in_the_way);
        let ready = stopped.start().await;
        assert!(ready <= READY_MAX, "{what}: ready after {ready:?}");
        self.stops += 1;
        self.check(&what).await;
    }

    async fn stand_in_the_way(&self, process: usize, awkward: &[Awkward]) -> Vec<TcpStream> {
        let key = DevKey::open(self.network.data_dir(), false).expect("the network has a key");
        let who = TokenRequest::new("awkward", [Role::OperatorMaker, Role::OperatorViewer]);
        let token = key
            .mint(&who, SystemClock.now())
            .expect("a token can be signed");
        let endpoint = self.fleet.processes[process].endpoint();
        let address = endpoint.trim_start_matches("http://");
        let mut sockets = Vec::new();
        for client in awkward {
            sockets.push(client.connect(address, &token).await.expect("it is taken"));
        }
        sockets
    }

    /// Everything that must be so once all that was asked has been answered.
    async fn check(&mut self, what: &str) {
        self.crowd.pause().await;
        let records = self.crowd.records(self.checked);
        self.crowd.assert_remembered(self.checked).await;
        self.checked += records.len();
        let dropped: Vec<&Record> = records
            .iter()
            .filter(|record| record.replayed && !record.failures.is_empty())
            .collect();
        assert!(
            dropped.is_empty(),
            "{what}: done, and not answered: {dropped:#?}"
        );
        self.tries += records
            .iter()
            .map(|record| record.failures.len())
            .sum::<usize>();
        let books = self.network.assert_books_balance_within(READY_MAX).await;
        let posted = i64::try_from(self.crowd.posted()).expect("a count");
        assert_eq!(books.summary.postings, posted, "{what}: each is there once");
        self.crowd.resume();
    }

    async fn end(self, what: &str) {
        let failures = self.crowd.failures(0);
        self.crowd.assert_remembered(0).await;
        let records = self.crowd.end().await;
        self.fleet.stop().await;
        self.network.stop().await;
        crate::told(&format!(
            "{what}: {} stops, {} answers checked, 0 lost, 0 done and not answered, {} tries told to \
             come back or not taken; stopped after {} ms at worst, with awkward clients {} ms\n    \
             instead of answers: {failures:?}",
            self.stops,
            records.len(),
            self.tries,
            self.worst_calm.as_millis(),
            self.worst.as_millis()
        ));
    }
}

/// Stops of each kind: under load alone, and with awkward clients.
fn stops(full: (usize, usize), short: (usize, usize)) -> (usize, usize) {
    if crate::is_full() { full } else { short }
}

async fn a_node(engine: Engine) {
    let Some(database) = Database::new(engine).await else {
        not_run("PostgreSQL: no server binaries found");
        return;
    };
    let mut rng = crate::seeded("shutdown");
    let folder = TempDir::with_prefix("coalition-shutdown-").expect("a temporary folder");
    let fleet = Fleet::one(folder.path(), &database.url, &mut rng).await;
    let network = Network::elsewhere(&fleet.endpoint(), database, folder);
    let mut scene = Scene::set(network, fleet, rng).await;
    let (calm, awkward) = stops((45, 5), (2, 1));
    for _ in 0..calm {
        scene.stop(0, &[]).await;
    }
    for round in 0..awkward {
        match round.checked_sub(1) {
            None => scene.stop(0, &Awkward::ALL).await,
            Some(alone) => scene.stop(0, &[Awkward::ALL[alone]]).await,
        }
    }
    scene.end(&format!("a node on {engine}")).await;
}

#[test]
fn a_node_on_sqlite() {
    bounded_by(SHUTDOWN_MAX, a_node(Engine::Sqlite));
}

#[test]
fn a_node_on_postgres() {
    bounded_by(SHUTDOWN_MAX, a_node(Engine::Postgres));
}

#[test]
fn each_role_of_a_split_network() {
    bounded_by(SHUTDOWN_MAX, async {
        let Some(database) = Database::new(Engine::Postgres).await else {
            not_run("PostgreSQL: no server binaries found");
            return;
        };
        let mut rng = crate::seeded("shutdown");
        let folder = TempDir::with_prefix("coalition-shutdown-").expect("a temporary folder");
        let fleet = Fleet::split(folder.path(), &database.url, &mut rng).await;
        let network = Network::elsewhere(&fleet.endpoint(), database, folder);
        let mut scene = Scene::set(network, fleet, rng).await;
        let roles = scene.fleet.processes.len();
        let (calm, awkward) = stops((44, 6), (roles, 0));
        for stop in 0..calm {
            scene.stop(stop % roles, &[]).await;
        }
        for stop in 0..awkward {
            scene
                .stop(
                    stop % roles,
                    &[Awkward::Silent, Awkward::Idle, Awkward::Half],
                )
                .await;
        }
        scene.end("each role of a split network").await;
    });
}
