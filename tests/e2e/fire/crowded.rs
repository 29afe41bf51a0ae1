//! More calls than there is room for: the surplus is told to come back, at once and with a time, and
//! what was taken in is answered; afterwards all is as before.
//!
//! So that a queue fills however fast the machine is, a hand in the database holds the books for a
//! moment; nothing but the queue then says when an answer comes.

use std::time::Duration;

use coalition_proto::earn::EarnResponse;
use coalition_proto::member::GetBalanceRequest;
use coalition_store::testing::Engine;
use coalition_tests::engine::{bounded, not_run};
use coalition_tests::{Caller, Partner, Refusal, terms};
use futures::future::{join, join_all};
use serde_json::Value;
use tokio::time::{Instant, interval, timeout};
use tonic::Code;

use super::full;
use super::setting::Setting;

/// Calls at once.
const FLOOD: usize = 600;
/// The same against a network with nothing set, in full length: more than it takes in at all.
const FULL_FLOOD: usize = 6_000;
/// Questions at once, by people with patience: as many as eight connections answer in that time.
const PATIENT: usize = 256;
/// The same by others: more than one connection answers in the time that they wait.
const IMPATIENT: usize = 512;
/// Room in the queue; a batch holds as many.
const QUEUE: &str = "16";
/// Connections that a flood comes over: what one connection may have open is bounded.
const CONNECTIONS: usize = 64;
/// How long the books are held.
const HELD: Duration = Duration::from_secs(2);
/// Longest until an earn that should be held is seen to be.
const PROBE: Duration = Duration::from_millis(200);
/// How often a call is sent that is told to come back.
const ATTEMPTS: usize = 1_000;

#[test]
fn a_full_queue_on_sqlite() {
    full_queue(Engine::Sqlite);
}

#[test]
fn a_full_queue_on_postgres() {
    full_queue(Engine::Postgres);
}

fn full_queue(engine: Engine) {
    let settings = [
        ("COALITION_LIMITS_QUEUE_CALLS", QUEUE),
        ("COALITION_LIMITS_BATCH_COMMANDS", QUEUE),
    ];
    bounded(async {
        let Some(setting) = Setting::one_process_with(engine, &settings).await else {
            not_run("PostgreSQL: no server binaries found");
            return;
        };
        let flood = Flood::at(&setting).await;
        let hold = hold(&setting);
        let rush = async {
            flood.until_held().await;
            flood.rush(FLOOD).await
        };
        let ((), answers) = join(hold, rush).await;

        let (taken, shed): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(a, _)| a.is_ok());
        let room: usize = QUEUE.parse().expect("a number");
        // The batch that waits for the books, and the queue behind it; the probes wait there too.
        assert!(
            (room / 2..=2 * room).contains(&taken.len()),
            "{} taken in",
            taken.len()
        );
        for (answer, _) in &shed {
            assert_queue_full(answer.as_ref().expect_err("told to come back"));
        }
        let slowest = shed.iter().map(|(_, at)| *at).max().expect("some are");
        let first = taken.iter().map(|(_, at)| *at).min().expect("some are");
        assert!(
            slowest < first,
            "told to come back after {slowest:?}, {first:?} is the first done"
        );
        flood.recovers(&setting, shed.len(), "posted").await;
        crate::told(&format!(
            "{engine}: of {FLOOD} calls at once {} were taken in (answered after {} ms and more, when \
             the books were free) and {} told to come back, the last after {} ms",
            taken.len(),
            first.as_millis(),
            shed.len(),
            slowest.as_millis(),
        ));
        setting.stop().await;
    });
}

#[test]
fn questions_by_hundreds_on_sqlite() {
    questions(Engine::Sqlite);
}

#[test]
fn questions_by_hundreds_on_postgres() {
    questions(Engine::Postgres);
}

/// With patience everybody is answered; without, the surplus is told to come back, in few lines of the
/// log.
fn questions(engine: Engine) {
    bounded(async {
        for (readers, wait_ms, questions) in [("8", "4000", PATIENT), ("1", "250", IMPATIENT)] {
            let patient = questions == PATIENT;
            let settings = [
                ("COALITION_LIMITS_READERS", readers),
                ("COALITION_LIMITS_READER_WAIT_MS", wait_ms),
            ];
            let Some(setting) = Setting::one_process_with(engine, &settings).await else {
                not_run("PostgreSQL: no server binaries found");
                return;
            };
            let flood = Flood::at(&setting).await;
            // A connection is there before the crowd comes.
            flood.ask_one().await;
            let begun = Instant::now();
            let answers = flood.ask(questions).await;
            let took = begun.elapsed();
            let shed: Vec<&Refusal> = answers.iter().filter_map(|a| a.as_ref().err()).collect();
            for refusal in &shed {
                assert_queue_full(refusal);
            }
            if patient {
                assert!(shed.is_empty(), "{} of {questions} turned away", shed.len());
            } else {
                assert!(!shed.is_empty(), "all of them found a connection in time");
                // It recovers.
                flood.ask_one().await;
            }
            let shed = shed.len();
            let logs = setting.stop().await;
            let (lines, counted) = turned_away(&logs, "questions");
            let seconds = usize::try_from(took.as_secs()).expect("few") + 2;
            assert!(lines <= seconds, "{lines} lines in {took:?}");
            assert!(
                counted <= shed && (shed == 0 || counted > 0),
                "{counted} of {shed}"
            );
            if !patient {
                crate::told(&format!(
                    "{engine}: {questions} questions over one connection in {} ms, {shed} told to come back, \
                     {lines} lines in the log",
                    took.as_millis()
                ));
            }
        }
    });
}

/// A network with nothing set takes in what it can, and says so of the rest.
#[test]
fn a_flood_against_the_defaults() {
    if !full() {
        not_run("a flood of thousands: COALITION_TEST_FULL is not set");
        return;
    }
    bounded(async {
        let setting = Setting::one_process(Engine::Sqlite)
            .await
            .expect("SQLite is built in");
        let flood = Flood::at(&setting).await;
        let answers = flood.rush(FULL_FLOOD).await;
        let mut counts = [0_usize; 3];
        for (answer, _) in &answers {
            match answer {
                Ok(_) => counts[0] += 1,
                Err(refusal) if refusal.code == Code::DeadlineExceeded => counts[1] += 1,
                Err(refusal) => {
                    assert_queue_full(refusal);
                    counts[2] += 1;
                }
            }
        }
        flood.ask_one().await;
        setting.network.assert_books_balance().await;
        let [done, late, shed] = counts;
        crate::told(&format!(
            "SQLite: of {FULL_FLOOD} calls at once {done} done, {late} too late, {shed} told to come \
             back"
        ));
        setting.stop().await;
    });
}

struct Flood {
    cafe: Partner,
    member: String,
    tills: Vec<Caller>,
}

/// An answer, and after how long.
type Timed = (Result<EarnResponse, Refusal>, Duration);

impl Flood {
    async fn at(setting: &Setting) -> Self {
        let network = &setting.network;
        let cafe = network
            .partner("cafe", terms::settle_at_issue("EUR", "0.01", "0.008"))
            .await;
        let member = network.member().await;
        let tills: Vec<Caller> = (0..CONNECTIONS)
            .map(|_| network.at(&setting.doors[0]).till(&cafe.id))
            .collect();
        let flood = Self {
            cafe,
            member,
            tills,
        };
        // All connections are there, and their tokens known, before the flood.
        join_all((0..CONNECTIONS).map(|till| flood.one(till, "warm"))).await;
        flood
    }

    async fn one(&self, place: usize, name: &str) -> EarnResponse {
        let request = self
            .cafe
            .earning(&self.member, &format!("{name}-{place}"), 10);
        for _ in 0..ATTEMPTS {
            match self.tills[place % CONNECTIONS].call(request.clone()).await {
                Ok(answer) => return answer,
                Err(refusal) => comes_back(&refusal).await,
            }
        }
        panic!("never answered");
    }

    /// Waits until an earn is not answered any more.
    async fn until_held(&self) {
        let mut probes = 0;
        while timeout(PROBE, self.one(0, &format!("probe-{probes}")))
            .await
            .is_ok()
        {
            probes += 1;
        }
    }

    async fn rush(&self, calls: usize) -> Vec<Timed> {
        let begun = Instant::now();
        join_all((0..calls).map(|place| async move {
            let request = self
                .cafe
                .earning(&self.member, &format!("rush-{place}"), 10);
            let answer = self.tills[place % CONNECTIONS].call(request).await;
            (answer, begun.elapsed())
        }))
        .await
    }

    async fn ask(&self, calls: usize) -> Vec<Result<(), Refusal>> {
        join_all((0..calls).map(|place| async move {
            let asked = GetBalanceRequest {
                member_id: self.member.clone(),
            };
            self.tills[place % CONNECTIONS].call(asked).await.map(drop)
        }))
        .await
    }

    async fn ask_one(&self) {
        let asked = GetBalanceRequest {
            member_id: self.member.clone(),
        };
        for _ in 0..ATTEMPTS {
            match self.tills[0].call(asked.clone()).await {
                Ok(_) => return,
                Err(refusal) => comes_back(&refusal).await,
            }
        }
        panic!("never answered");
    }

    /// Everybody comes back, and is served.
    async fn recovers(&self, setting: &Setting, calls: usize, name: &str) {
        let answers = join_all((0..calls).map(|place| self.one(place, name))).await;
        assert!(answers.iter().all(|answer| !answer.replayed));
        setting.network.assert_books_balance().await;
    }
}

/// Waits for as long as a caller is told to. Hundreds who came back at once, thousands of times a second,
/// would leave a slow machine no time to post.
async fn comes_back(refusal: &Refusal) {
    assert_eq!(refusal.code, Code::Unavailable, "{refusal}");
    let mut pauses = interval(refusal.retry_after.expect("told when"));
    pauses.tick().await;
    pauses.tick().await;
}

#[track_caller]
fn assert_queue_full(refusal: &Refusal) {
    refusal.assert(Code::Unavailable, "QUEUE_FULL");
    assert!(
        refusal.retry_after.is_some_and(|pause| !pause.is_zero()),
        "{refusal}"
    );
}

/// Holds the books so that nothing can be posted.
async fn hold(setting: &Setting) {
    match setting.network.engine {
        Engine::Postgres => {
            // The lock of the open window, as the store has it.
            let seconds = HELD.as_secs();
            let lock = "select pg_advisory_xact_lock(x'636f616c77696e64'::bigint)";
            setting
                .network
                .edit(&format!(
                    "begin; {lock}; select pg_sleep({seconds}); commit"
                ))
                .await;
        }
        Engine::Sqlite => {
            // A statement that changes nothing, and counts for a while before it knows.
            let count = "with recursive n(i) as (select 1 union all select i + 1 from n where \
                         i < 4000000) select count(*) from n";
            setting
                .network
                .edit(&format!(
                    "update windows set number = number where ({count}) < 0"
                ))
                .await;
        }
    }
}

/// Lines about what was turned away at one door, and how many they speak of.
fn turned_away(logs: &[String], what: &str) -> (usize, usize) {
    let lines = logs.iter().flat_map(|log| log.lines());
    let lines = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let about = |line: &Value| {
        let message = line["message"].as_str().unwrap_or_default();
        message.starts_with("too many") && message.contains(what)
    };
    let counts = lines
        .filter(about)
        .map(|line| line["count"].as_u64().expect("a count"));
    let counts: Vec<u64> = counts.collect();
    (
        counts.len(),
        usize::try_from(counts.iter().sum::<u64>()).expect("few"),
    )
}
