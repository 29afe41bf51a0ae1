//! Ends that nobody prepares for: `kill -9` of a node, of one role, and of PostgreSQL, at random
//! moments while a crowd of tills is at work.
//!
//! After each: whoever was killed serves again within five seconds; the tills, which asked again with
//! the same ids, have been answered; every answer that was ever given since the last kill is given
//! again; there are exactly as many postings as answers that say so; nothing is there by halves; the
//! books balance; and no connection to PostgreSQL is inside a transaction. `COALITION_TEST_FULL=1`
//! kills each fifty times, `COALITION_TEST_SEED` names the moments.

use std::time::Duration;

use coalition_store::testing::{Database, Engine, Server};
use coalition_tests::crowd::Crowd;
use coalition_tests::engine::{bounded_by, not_run};
use coalition_tests::fleet::{Fleet, READY_MAX, until_serving};
use coalition_tests::{Network, Partner, terms};
use tempfile::TempDir;
use tokio::time::{Instant, interval, timeout};

/// Longest that one test may take, in the full form.
const KILLED_MAX: Duration = Duration::from_mins(30);

/// Kills of each in the full form, and otherwise.
const KILLS_FULL: usize = 50;
const KILLS: usize = 3;

/// Answers between two kills: at least, and at most.
const ANSWERS: std::ops::Range<usize> = 20..200;

/// Longest between the last of those and the kill: longer than a batch takes.
const MOMENT_MAX_US: u64 = 30_000;

/// How often the first writer after a crash of the database knocks.
const KNOCK_INTERVAL: Duration = Duration::from_millis(20);

/// What must not be there: halves of what is written together.
const HALVES: [&str; 4] = [
    "select count(*) from requests where subject = 1 and \
     not exists (select 1 from transactions where id = subject_id)",
    "select count(*) from checks where \
     not exists (select 1 from transactions where id = transaction_id)",
    "select count(*) from transactions where \
     not exists (select 1 from requests where subject_id = transactions.id)",
    "select count(*) from lots where not exists (select 1 from members where id = member_id)",
];

/// How many kills this run is for.
fn kills(full: usize, short: usize) -> usize {
    if crate::is_full() { full } else { short }
}

/// A network under load, and what has been seen of it.
struct Scene {
    network: Network,
    fleet: Fleet,
    crowd: Crowd,
    probe: Partner,
    guest: String,
    rng: fastrand::Rng,
    /// Records that were asked for again.
    checked: usize,
    kills: usize,
    probes: usize,
    worst_ready: Duration,
    /// Tries that had been done although no answer came.
    late: usize,
}

impl Scene {
    async fn set(network: Network, fleet: Fleet, mut rng: fastrand::Rng) -> Self {
        let cafe = network
            .partner("cafe", terms::settle_at_issue("EUR", "0.01", "0.008"))
            .await;
        let salon = network
            .partner("salon", terms::settle_at_redemption("EUR", "0.01", "0.008"))
            .await;
        let probe = network.partner("probe", terms::bare("EUR")).await;
        let guest = network.member().await;
        let crowd = Crowd::begin(&network, &[&cafe, &salon], rng.u64(..)).await;
        Self {
            network,
            fleet,
            crowd,
            probe,
            guest,
            rng,
            checked: 0,
            kills: 0,
            probes: 0,
            worst_ready: Duration::ZERO,
            late: 0,
        }
    }

    /// Waits for a moment that nobody could foresee.
    async fn some_moment(&mut self) {
        let answers = self.rng.usize(ANSWERS);
        self.crowd.until_answered(answers).await;
        let moment = Duration::from_micros(self.rng.u64(..MOMENT_MAX_US));
        // There is no condition to wait for: that is the point.
        let _ = timeout(moment, std::future::pending::<()>()).await;
    }

    fn noted(&mut self, ready: Duration, whose: &str) {
        self.worst_ready = self.worst_ready.max(ready);
        assert!(ready <= READY_MAX, "{whose} is ready after {ready:?}");
    }

    /// Everything that must be so after a kill, once all that was asked has been answered.
    async fn check(&mut self, what: &str) {
        self.kills += 1;
        self.crowd.pause().await;
        let records = self.crowd.records(self.checked);
        self.late += records
            .iter()
            .filter(|record| record.replayed && !record.failures.is_empty())
            .count();
        self.crowd.assert_remembered(self.checked).await;
        self.checked += records.len();
        let books = self.network.assert_books_balance_within(READY_MAX).await;
        let posted = i64::try_from(self.crowd.posted() + self.probes).expect("a count");
        assert_eq!(books.summary.postings, posted, "{what}: each is there once");
        for query in HALVES {
            assert_eq!(self.network.number(query).await, 0, "{what}: {query}");
        }
        if self.network.engine == Engine::Postgres {
            let open = "select count(*) from pg_stat_activity where datname = current_database() \
                        and pid <> pg_backend_pid() and xact_start is not null";
            let closed = timeout(READY_MAX, async {
                while self.network.number(open).await != 0 {
                    tokio::task::yield_now().await;
                }
            });
            assert!(
                closed.await.is_ok(),
                "{what}: a transaction is open while nobody works"
            );
        }
        self.crowd.resume();
    }

    /// Writes something as soon as that is possible; how long that took.
    async fn until_writing(&mut self) -> Duration {
        let begun = Instant::now();
        self.probes += 1;
        let check = format!("probe {}", self.probes);
        let request = self.probe.earning(&self.guest, &check, 1);
        let mut knocks = interval(KNOCK_INTERVAL);
        while self.probe.till.call(request.clone()).await.is_err() {
            knocks.tick().await;
            assert!(begun.elapsed() <= READY_MAX, "nothing can be written");
        }
        begun.elapsed()
    }

    async fn end(self, what: &str) {
        let failures = self.crowd.failures(0);
        self.crowd.assert_remembered(0).await;
        let records = self.crowd.end().await;
        let posted = records.iter().filter(|record| record.is_posted()).count();
        let tries: usize = records.iter().map(|record| record.failures.len()).sum();
        self.fleet.stop().await;
        self.network.stop().await;
        crate::told(&format!(
            "{what}: {} kills, {} answers checked ({posted} posted), {tries} tries without one \
             ({} of them had been done), 0 lost, 0 doubled; ready again after {} ms at worst\n    \
             instead of answers: {failures:?}",
            self.kills,
            records.len(),
            self.late,
            self.worst_ready.as_millis()
        ));
    }
}

fn killed(test: impl AsyncFnOnce(fastrand::Rng)) {
    bounded_by(KILLED_MAX, async { test(crate::seeded("killed")).await });
}

async fn a_node(engine: Engine, mut rng: fastrand::Rng) {
    let Some(database) = Database::new(engine).await else {
        not_run("PostgreSQL: no server binaries found");
        return;
    };
    let folder = TempDir::with_prefix("coalition-killed-").expect("a temporary folder");
    let fleet = Fleet::one(folder.path(), &database.url, &mut rng).await;
    let network = Network::elsewhere(&fleet.endpoint(), database, folder);
    let mut scene = Scene::set(network, fleet, rng).await;
    for kill in 0..kills(KILLS_FULL, KILLS) {
        scene.some_moment().await;
        let up = &mut scene.fleet.processes[0];
        up.kill().await;
        let ready = up.start().await;
        scene.noted(ready, "the node");
        scene.check(&format!("kill {kill}")).await;
    }
    scene.end(&format!("a node on {engine}")).await;
}

#[test]
fn a_node_on_sqlite() {
    killed(async |rng| a_node(Engine::Sqlite, rng).await);
}

#[test]
fn a_node_on_postgres() {
    killed(async |rng| a_node(Engine::Postgres, rng).await);
}

#[test]
fn one_role_of_a_split_network() {
    killed(async |mut rng| {
        let Some(database) = Database::new(Engine::Postgres).await else {
            not_run("PostgreSQL: no server binaries found");
            return;
        };
        let folder = TempDir::with_prefix("coalition-killed-").expect("a temporary folder");
        let fleet = Fleet::split(folder.path(), &database.url, &mut rng).await;
        let network = Network::elsewhere(&fleet.endpoint(), database, folder);
        let mut scene = Scene::set(network, fleet, rng).await;
        // Each in turn: in the full form as often as makes fifty.
        let roles = scene.fleet.processes.len();
        for kill in 0..kills(KILLS_FULL.next_multiple_of(roles), roles) {
            scene.some_moment().await;
            let role = &mut scene.fleet.processes[kill % roles];
            role.kill().await;
            let restarted = Instant::now();
            let ready = role.start().await;
            let name = role.name;
            scene.noted(ready, name);
            // And the gateway knows.
            until_serving(&scene.fleet.endpoint(), "").await;
            scene.noted(restarted.elapsed(), "the gateway");
            scene.check(&format!("kill {kill}, of {name}")).await;
        }
        scene.end("each role of a split network").await;
    });
}

#[test]
fn postgres_itself() {
    killed(async |mut rng| {
        let Some(mut server) = Server::start() else {
            not_run("PostgreSQL: no server binaries found");
            return;
        };
        let database = Database::on(&server).await;
        let folder = TempDir::with_prefix("coalition-killed-").expect("a temporary folder");
        let fleet = Fleet::one(folder.path(), &database.url, &mut rng).await;
        let network = Network::elsewhere(&fleet.endpoint(), database, folder);
        let mut scene = Scene::set(network, fleet, rng).await;
        for kill in 0..kills(KILLS_FULL, KILLS) {
            scene.some_moment().await;
            // The whole server, or one of its processes, which makes it throw all others out.
            let whole = kill % 3 != 2;
            if whole {
                server.crash();
                server.restart();
            } else {
                server.crash_one(coalition_store::testing::OWN_DATABASE);
            }
            let ready = scene.until_writing().await;
            scene.noted(ready, "the node over a new PostgreSQL");
            scene.check(&format!("kill {kill}")).await;
        }
        scene.end("PostgreSQL under a node").await;
        drop(server);
    });
}
