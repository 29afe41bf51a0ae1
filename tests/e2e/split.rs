//! The real binary in processes of its own: five roles over one PostgreSQL database, one that dies
//! and comes back, and processes that are told to stop, or killed, under load.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use coalition_proto::earn::EarnRequest;
use coalition_proto::partner::Terms;
use coalition_store::testing::{Database, Engine};
use coalition_tests::engine::{bounded, not_run};
use coalition_tests::process::{Coalition, STOP_MAX, Serving, binary};
use coalition_tests::rpc::Rpc;
use coalition_tests::{Caller, Network, Partner, Refusal, terms};
use futures::future::{join, join_all};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::time::{interval, timeout};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::replay::Files;

/// Longest that a command that prints an answer may take.
pub(crate) const COMMAND_MAX: Duration = Duration::from_mins(1);

/// Longest until a service that came back is called again.
const BACK_MAX: Duration = Duration::from_secs(20);

pub(crate) const FACE_VALUES: &str = "COALITION_NETWORK_FACE_VALUES";

/// A cent a point in euros; in dollars half a cent, as the small journal has it.
pub(crate) const FACE_VALUES_SET: &str = "{EUR = \"0.01\", USD = \"0.005\"}";

/// A network of five processes.
pub(crate) struct Split {
    pub(crate) network: Network,
    services: BTreeMap<&'static str, Serving>,
    _gateway: Serving,
}

/// The command line of one role of a network.
pub(crate) fn role(name: &str, listen: &str, folder: &Path, database: &str) -> Coalition {
    role_of(binary(), name, listen, folder, database)
}

/// The same, of another build.
fn role_of(build: &Path, name: &str, listen: &str, folder: &Path, database: &str) -> Coalition {
    Coalition::of(
        build,
        [name, "--listen", listen, "--database-url", database],
    )
    .env("COALITION_DATA_DIR", folder)
    .env(FACE_VALUES, FACE_VALUES_SET)
}

impl Split {
    /// Of this build of the binary; `None` where there is no PostgreSQL to be had and that is allowed.
    pub(crate) async fn start(build: &Path) -> Option<Self> {
        let database = Database::new(Engine::Postgres).await?;
        let folder = TempDir::with_prefix("coalition-split-").expect("a temporary folder");
        let url = database.url.clone();

        // A role sets nothing up: it says who does.
        let start = |name| role_of(build, name, "127.0.0.1:0", folder.path(), &url).start();
        let early = start("earn").await;
        early
            .expect_err("there is no network yet")
            .assert_code(1)
            .assert_says("coalition migrate");
        for _ in 0..2 {
            let migrate = Coalition::of(build, ["migrate", "--database-url", &url])
                .env("COALITION_DATA_DIR", folder.path())
                .env(FACE_VALUES, FACE_VALUES_SET);
            migrate
                .run(COMMAND_MAX)
                .await
                .assert_code(0)
                .assert_says("up to date");
        }

        let names = ["earn", "redeem", "settlement", "network"];
        let started = join_all(names.map(start)).await;
        let services: BTreeMap<&str, Serving> = names
            .into_iter()
            .zip(started)
            .map(|(name, started)| (name, started.unwrap_or_else(|run| panic!("{run:?}"))))
            .collect();
        let mut gateway = Coalition::of(build, ["gateway", "--listen", "127.0.0.1:0"])
            .env("COALITION_DATA_DIR", folder.path());
        for (name, service) in &services {
            let variable = format!("COALITION_UPSTREAMS_{}", name.to_uppercase());
            gateway = gateway.env(&variable, &service.endpoint);
        }
        let gateway = gateway
            .start()
            .await
            .unwrap_or_else(|run| panic!("{run:?}"));
        Some(Self {
            network: Network::elsewhere(&gateway.endpoint, database, folder),
            services,
            _gateway: gateway,
        })
    }
}

fn split(test: impl AsyncFnOnce(Split)) {
    bounded(async {
        match Split::start(binary()).await {
            Some(split) => {
                split
                    .network
                    .set_clock(coalition_tests::network::START)
                    .await;
                test(split).await;
            }
            None => not_run("PostgreSQL: no server binaries found"),
        }
    });
}

#[test]
fn five_processes_are_one_network() {
    split(async |split| {
        let network = &split.network;
        let cafe = network
            .partner("cafe", terms::settle_at_issue("EUR", "0.01", "0.008"))
            .await;
        let salon = network
            .partner("salon", terms::settle_at_issue("EUR", "0.01", "0.008"))
            .await;
        let member = network.member().await;
        let earning = cafe.earning(&member, "c-1", 1_000);
        let first = cafe.till.ask(earning.clone()).await;
        assert_eq!(first.points_earned, 1_000);
        assert!(cafe.till.ask(earning).await.replayed);
        salon.redeem(&member, "r-1", 600).await;
        salon.refund("r-1", 100).await;
        cafe.take_back("c-1", 200).await;
        // Members and partners side by side, each through the process that has its service.
        join_all((0..40).map(|number| {
            let (cafe, salon) = (&cafe, &salon);
            async move {
                let member = network.member().await;
                cafe.earn(&member, &format!("e-{number}"), 100).await;
                salon.redeem(&member, &format!("s-{number}"), 50).await;
            }
        }))
        .await;
        // The sandbox's clock is the same in every process.
        network.set_clock("2026-01-03").await;
        let later = cafe.earn(&member, "c-2", 100).await;
        assert_eq!(
            later.posted_at,
            Some(coalition_tests::figures::time("2026-01-03"))
        );
        let closed = network.cut().await.closed.expect("a window was closed");
        assert_eq!(closed.postings, 4 + 80 + 1);
        assert_eq!(
            network.nets(&closed.window_id).await[&salon.id],
            (500 + 40 * 50) * 8_000
        );
        network.assert_books_balance().await;

        // A call that walks round the gateway is checked all the same.
        for (name, service) in &split.services {
            let channel = coalition_tests::network::connect(&service.endpoint);
            let stranger = Caller::new(channel, None);
            let refusal = match *name {
                "earn" => stranger.refused(cafe.earning(&member, "x", 1)).await,
                "redeem" => stranger.refused(cafe.redeeming(&member, "x", 1)).await,
                "settlement" => {
                    stranger
                        .refused(coalition_proto::settlement::GetOpenWindowRequest {})
                        .await
                }
                _ => {
                    stranger
                        .refused(coalition_proto::sandbox::GetClockRequest {})
                        .await
                }
            };
            refusal.assert(Code::Unauthenticated, "UNAUTHENTICATED");
        }

        // Each process stops when it is told to, on its own.
        for (name, service) in split.services {
            let (status, after, log) = service.terminate().await;
            assert!(
                status.success() && after < STOP_MAX,
                "{name}: {status} after {after:?}\n{log}"
            );
        }
    });
}

#[test]
fn a_small_journal_matches_over_five_processes() {
    split(async |split| {
        let arguments = ["replay".to_owned()]
            .into_iter()
            .chain(Files::small().arguments());
        let run = Coalition::new(
            arguments.chain(["--endpoint".to_owned(), split.network.endpoint().to_owned()]),
        )
        .env("COALITION_DATA_DIR", split.network.data_dir());
        run.run(COMMAND_MAX).await.assert_code(0);
        split.network.assert_books_balance().await;
    });
}

#[test]
fn a_service_that_dies_takes_no_other_with_it() {
    split(async |mut split| {
        let cafe = split
            .network
            .partner("cafe", terms::settle_at_redemption("EUR", "0.01", "0.008"))
            .await;
        let member = split.network.member().await;
        let earning = cafe.earning(&member, "c-1", 1_000);
        let first = cafe.till.ask(earning.clone()).await;

        let earn = split.services.remove("earn").expect("it was started");
        let listen = earn.endpoint.trim_start_matches("http://").to_owned();
        earn.kill().await;
        // Callers are told to come back, with the same request; the others work on.
        let refusal = cafe.till.refused(earning.clone()).await;
        refusal.assert(Code::Unavailable, "UNAVAILABLE");
        assert!(
            refusal.retry_after.is_some_and(|pause| !pause.is_zero()),
            "{refusal}"
        );
        assert_eq!(cafe.redeem(&member, "r-1", 400).await.points, 400);

        // Whoever watches the gateway's health sees which one is gone.
        let watched = &split.network;
        until_health(watched, EARN, ServingStatus::NotServing).await;
        until_health(watched, "", ServingStatus::NotServing).await;
        until_health(watched, REDEEM, ServingStatus::Serving).await;

        let network = &split.network;
        let (folder, url) = (network.data_dir(), network.database_url());
        let back = role("earn", &listen, folder, url).start().await;
        let back = back.unwrap_or_else(|run| panic!("{run:?}"));
        let again = until_available(&cafe.till, &earning).await;
        assert!(again.replayed);
        assert_eq!(again.transaction_id, first.transaction_id);
        cafe.earn(&member, "c-2", 100).await;
        until_health(network, EARN, ServingStatus::Serving).await;
        until_health(network, "", ServingStatus::Serving).await;
        network.assert_books_balance().await;
        drop(back);
    });
}

/// Two processes of each service meet in one database: at one member, at one limit, at one request.
#[test]
fn processes_that_meet_agree() {
    split(async |split| {
        let network = &split.network;
        let (folder, url) = (network.data_dir(), network.database_url());
        let seconds =
            join_all(["earn", "redeem"].map(|name| role(name, "127.0.0.1:0", folder, url).start()))
                .await;
        let seconds: Vec<Serving> = seconds
            .into_iter()
            .map(|started| started.unwrap_or_else(|run| panic!("{run:?}")))
            .collect();

        let limited = Terms {
            limit: Some("10.00".to_owned()),
            ..terms::settle_at_issue("EUR", "0.01", "0.008")
        };
        let cafe = network.partner("cafe", limited).await;
        let salon = network
            .partner("salon", terms::settle_at_issue("EUR", "0.01", "0.008"))
            .await;
        let (hot, cold) = (network.member().await, network.member().await);
        salon.earn(&hot, "start", 1_000).await;
        // Each call goes to the service itself, now to one process of it, now to the other.
        let tills = |partner: &Partner, first: &Serving, second: &Serving| {
            [first, second].map(|service| network.at(&service.endpoint).till(&partner.id))
        };
        let cafe_earns = tills(&cafe, &split.services["earn"], &seconds[0]);
        let salon_earns = tills(&salon, &split.services["earn"], &seconds[0]);
        let salon_redeems = tills(&salon, &split.services["redeem"], &seconds[1]);

        // 1,000 points fit under the limit, and 1,000 are there to spend; 1,400 are asked for of each.
        let earning: Vec<_> = (0..200)
            .map(|n| cafe.earning(&cold, &format!("e-{n}"), 7))
            .collect();
        let spending: Vec<_> = (0..200)
            .map(|n| salon.redeeming(&hot, &format!("r-{n}"), 7))
            .collect();
        let earned = earning.iter().zip(cafe_earns.iter().cycle());
        let earned = earned.map(|(request, till)| decided(till, request));
        let spent = spending.iter().zip(salon_redeems.iter().cycle());
        let spent = spent.map(|(request, till)| decided(till, request));
        let (earned, spent) = join(join_all(earned), join_all(spent)).await;
        for (answers, reason) in [
            (
                earned
                    .iter()
                    .map(|answer| answer.as_ref().err())
                    .collect::<Vec<_>>(),
                "LIMIT_EXCEEDED",
            ),
            (
                spent.iter().map(|answer| answer.as_ref().err()).collect(),
                "INSUFFICIENT_POINTS",
            ),
        ] {
            let declined: Vec<_> = answers.into_iter().flatten().collect();
            assert_eq!(declined.len(), 200 - 142, "{reason}");
            for refusal in declined {
                refusal.assert_declined(reason);
            }
        }

        // One request at both processes at once is posted once.
        let twice = salon.earning(&cold, "twice", 100);
        let answers = salon_earns.iter().cycle().take(40);
        let answers = join_all(
            answers.map(|till| async { decided(till, &twice).await.expect("it is posted") }),
        )
        .await;
        assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
        assert!(
            answers
                .iter()
                .all(|answer| answer.transaction_id == answers[0].transaction_id)
        );
        network.assert_books_balance().await;
    });
}

/// A call, repeated while the answer is that somebody else was always first.
async fn decided<R: Rpc>(till: &Caller, request: &R) -> Result<R::Answer, Refusal> {
    let answered = timeout(BACK_MAX, async {
        loop {
            match till.call(request.clone()).await {
                Err(refusal) if refusal.code == Code::Unavailable => {}
                answer => return answer,
            }
        }
    });
    answered.await.expect("somebody is not always first")
}

const EARN: &str = coalition_proto::earn::earn_service_server::SERVICE_NAME;
const REDEEM: &str = coalition_proto::redeem::redeem_service_server::SERVICE_NAME;

/// Watches what the gateway says of a service until it says this. Needs no token.
async fn until_health(network: &Network, service: &str, expected: ServingStatus) {
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let said = timeout(BACK_MAX, async {
        let mut health = HealthClient::new(network.stranger().channel());
        let mut news = health
            .watch(request)
            .await
            .expect("health is told")
            .into_inner();
        while let Some(said) = news.message().await.expect("news come as they are made") {
            if said.status() == expected {
                return;
            }
        }
        panic!("the watch of {service:?} ended");
    });
    let said = said.await;
    assert!(said.is_ok(), "{service:?} is not {expected:?} in time");
}

/// Repeats a request, as tills do, until it is not answered with UNAVAILABLE any more.
async fn until_available(
    till: &Caller,
    request: &EarnRequest,
) -> coalition_proto::earn::EarnResponse {
    let answered = timeout(BACK_MAX, async {
        let mut pauses = interval(Duration::from_millis(50));
        loop {
            pauses.tick().await;
            match till.call(request.clone()).await {
                Ok(answer) => return answer,
                Err(refusal) => assert_eq!(refusal.code, Code::Unavailable, "{refusal}"),
            }
        }
    });
    answered.await.expect("the service is called again")
}

#[test]
fn one_role_on_sqlite_says_why_not() {
    bounded(async {
        let folder = TempDir::with_prefix("coalition-split-").expect("a temporary folder");
        let url = format!("sqlite:{}", folder.path().join("books.db").display());
        for name in ["earn", "redeem", "settlement", "network", "worker"] {
            let run = role(name, "127.0.0.1:0", folder.path(), &url).start().await;
            let run = run.expect_err("SQLite is for one process");
            run.assert_says("SQLite").assert_says("coalition up");
            assert!(run.code.is_some_and(|code| code != 0), "{run:?}");
        }
    });
}

#[test]
fn a_stop_under_load_loses_nothing_on_sqlite() {
    loses_nothing(Engine::Sqlite, Ending::Told);
}

#[test]
fn a_stop_under_load_loses_nothing_on_postgres() {
    loses_nothing(Engine::Postgres, Ending::Told);
}

#[test]
fn a_kill_under_load_loses_nothing_on_sqlite() {
    loses_nothing(Engine::Sqlite, Ending::Killed);
}

#[test]
fn a_kill_under_load_loses_nothing_on_postgres() {
    loses_nothing(Engine::Postgres, Ending::Killed);
}

#[derive(Clone, Copy, PartialEq)]
enum Ending {
    /// By SIGTERM: it must stop by itself.
    Told,
    /// By SIGKILL: nothing is tidied up.
    Killed,
}

/// Tills that earn without a pause.
const TILLS: usize = 16;
/// Answers after which the process ends.
const ANSWERS: usize = 300;

/// What was answered before a process ended is there when the next one starts; what was not, is there
/// once at most, and the same request settles it.
fn loses_nothing(engine: Engine, ending: Ending) {
    bounded(async {
        let Some(database) = Database::new(engine).await else {
            not_run("PostgreSQL: no server binaries found");
            return;
        };
        let folder = TempDir::with_prefix("coalition-stop-").expect("a temporary folder");
        let serving = up(folder.path(), &database.url).await;
        let network = Network::elsewhere(&serving.endpoint, database, folder);
        let cafe = network
            .partner("cafe", terms::settle_at_issue("EUR", "0.01", "0.008"))
            .await;
        let member = network.member().await;

        let load = under_load(&cafe, &member);
        let end = async {
            load.enough.notified().await;
            match ending {
                Ending::Killed => serving.kill().await,
                Ending::Told => {
                    let (status, after, log) = serving.terminate().await;
                    assert!(
                        status.success() && after < STOP_MAX,
                        "{status} after {after:?}\n{log}"
                    );
                }
            }
            load.over.store(true, Ordering::SeqCst);
        };
        let (sent, ()) = join(load.run(), end).await;
        let answered = sent.iter().filter(|(_, answer)| answer.is_some()).count();
        assert!(answered >= ANSWERS, "{answered}");

        let serving = up(network.data_dir(), network.database_url()).await;
        let network = network.moved_to(&serving.endpoint);
        let till = network.till(&cafe.id);
        let mut late = 0;
        for (request, answer) in &sent {
            let now = till.ask(request.clone()).await;
            match answer {
                Some(transaction) => {
                    assert!(now.replayed, "an answered earn is gone");
                    assert_eq!(now.transaction_id, *transaction);
                }
                None => late += usize::from(!now.replayed),
            }
        }
        let books = network.assert_books_balance().await;
        assert_eq!(
            books.summary.postings,
            i64::try_from(sent.len()).expect("a count")
        );
        crate::told(&format!(
            "{engine}: {answered} of {} calls answered before the end, {late} settled after it, 0 lost",
            sent.len()
        ));
        serving.kill().await;
        network.stop().await;
    });
}

/// All roles in one process.
async fn up(folder: &Path, database: &str) -> Serving {
    let serving = role("up", "127.0.0.1:0", folder, database).start().await;
    serving.unwrap_or_else(|run| panic!("{run:?}"))
}

/// Tills at work until the network goes away under them.
struct Load<'a> {
    cafe: &'a Partner,
    member: &'a str,
    answers: AtomicUsize,
    enough: Notify,
    over: AtomicBool,
}

fn under_load<'a>(cafe: &'a Partner, member: &'a str) -> Load<'a> {
    Load {
        cafe,
        member,
        answers: AtomicUsize::new(0),
        enough: Notify::new(),
        over: AtomicBool::new(false),
    }
}

impl Load<'_> {
    /// Every request that was sent, with the transaction it was answered with.
    async fn run(&self) -> Vec<(EarnRequest, Option<String>)> {
        let tills = (0..TILLS).map(|till| async move {
            let mut sent = Vec::new();
            while !self.over.load(Ordering::SeqCst) {
                let request = self
                    .cafe
                    .earning(self.member, &format!("{till}-{}", sent.len()), 10);
                let Ok(answer) = self.cafe.till.call(request.clone()).await else {
                    sent.push((request, None));
                    break;
                };
                sent.push((request, Some(answer.transaction_id)));
                if self.answers.fetch_add(1, Ordering::SeqCst) + 1 == ANSWERS {
                    self.enough.notify_one();
                }
            }
            sent
        });
        join_all(tills).await.into_iter().flatten().collect()
    }
}
