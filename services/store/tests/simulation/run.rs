//! One run: a seed, a network, processes and callers, and what is looked at in the end.

use std::sync::Arc;
use std::time::Duration;

use coalition_ledger::decision::{Decision, Refusal};
use coalition_ledger::ids::TransactionId;
use coalition_ledger::planted;
use coalition_ledger::snapshot::Subject;
use coalition_store::verify::{Listener, Report, verify};
use tokio::task::LocalSet;

use super::callers::Callers;
use super::desk::as_told;
use super::pool::{Pool, Running};
use super::replay;
use super::sim::{Planted, Sim};
use super::weather::Weather;
use super::world::{START, World};

/// Simulated seconds within which a run must end.
const LONGEST_RUN_S: u64 = 600;
/// Violations that a report shows.
const VIOLATIONS_SHOWN: usize = 5;

/// What a run came to.
pub(crate) struct Outcome {
    pub(crate) violations: Vec<String>,
    pub(crate) trace: Vec<String>,
    /// Units committed, and commands asked.
    pub(crate) commits: u64,
    pub(crate) commands: usize,
}

impl Outcome {
    /// What is wrong, in words; nothing, if nothing is.
    pub(crate) fn report(&self, seed: u64) -> Option<String> {
        let first = self
            .violations
            .get(..self.violations.len().min(VIOLATIONS_SHOWN))?;
        (!first.is_empty()).then(|| {
            format!(
                "seed {seed}: {}\n\nto see how it came to that:\n    COALITION_SIM_SEED={seed} \
                 cargo test -p coalition-store --test simulation whatever -- --nocapture",
                first.join("\n")
            )
        })
    }
}

/// Runs a seed.
pub(crate) fn run(seed: u64, bug: Option<Planted>, traced: bool) -> Outcome {
    planted::forget_headroom(bug == Some(Planted::ForgottenHeadroom));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O");
    let mut rng = fastrand::Rng::with_seed(seed);
    let world = World::random(&mut rng);
    let sim = Sim::new(rng.u64(..), bug, traced, world.tables(), START);
    let local = LocalSet::new();
    let callers = local.block_on(&runtime, live(&sim, &world));
    drop(runtime);
    planted::forget_headroom(false);
    let commands = callers.desk().asked.len();
    let commits = sim.state().db.commits();
    let (violations, trace) = sim.seen();
    Outcome {
        violations,
        trace,
        commits,
        commands,
    }
}

/// The run itself: it opens, goes through its weather, comes to rest, and is looked at.
async fn live(sim: &Arc<Sim>, world: &World) -> Arc<Callers> {
    let pool = Pool::new(sim);
    let callers = Callers::new(&pool);
    let longest = Duration::from_secs(LONGEST_RUN_S);
    let ended = tokio::time::timeout(longest, async {
        callers.open().await;
        go_through(sim, &pool, &callers).await;
        let last = come_to_rest(sim, &pool, &callers).await;
        books_are_right(sim, &last).await;
    });
    if ended.await.is_err() {
        sim.violation("the run does not end");
    }
    let state = sim.state();
    if state.violations.is_empty() {
        let wrong = answers_are_in_the_books(&state.db, &callers);
        let wrong = if wrong.is_empty() {
            replay::compare(world, &state.db, &callers.desk())
        } else {
            wrong
        };
        drop(state);
        for what in wrong {
            sim.violation(what);
        }
    } else {
        drop(state);
    }
    callers
}

/// Tills, an operator, and trouble.
async fn go_through(sim: &Arc<Sim>, pool: &Arc<Pool>, callers: &Arc<Callers>) {
    let (tills, calls, operations) = {
        let mut state = sim.state();
        let weather = Weather::of_run(&mut state.rng);
        state.note(|| format!("{weather:?}"));
        state.weather = weather;
        let tills = state.rng.u32(3..=8);
        (tills, state.rng.u32(40..=80) / tills, state.rng.u32(2..=8))
    };
    let trouble = tokio::task::spawn_local(Arc::clone(pool).trouble());
    let mut tasks: Vec<_> = (0..tills)
        .map(|_| tokio::task::spawn_local(Arc::clone(callers).till(calls)))
        .collect();
    tasks.push(tokio::task::spawn_local(
        Arc::clone(callers).operator(operations),
    ));
    for task in tasks {
        if let Err(error) = task.await {
            sim.violation(format!("a caller ended badly: {error}"));
        }
    }
    pool.finish();
    if let Err(error) = trouble.await {
        sim.violation(format!("a process did not shut down: {error}"));
    }
}

/// Nothing goes wrong any more: everything that was ever asked is asked again, at a new process.
async fn come_to_rest(sim: &Arc<Sim>, pool: &Arc<Pool>, callers: &Arc<Callers>) -> Arc<Running> {
    sim.state().weather = Weather::calm();
    sim.trace(|| "everything is asked again".to_owned());
    let last = pool.start();
    let places: Vec<usize> = (0..callers.desk().asked.len()).collect();
    // Once for those whose answer nobody knows, once more for the same answer.
    for _ in 0..2 {
        if !callers.call(&last, &places, None).await {
            sim.violation("a quiet network does not answer");
        }
    }
    callers.cut_again().await;
    last
}

struct Findings(Vec<String>);

#[async_trait::async_trait]
impl Listener for Findings {
    async fn hear(&mut self, report: Report) -> bool {
        if let Report::Finding(finding) = report {
            self.0.push(format!("{finding:?}"));
        }
        true
    }
}

async fn books_are_right(sim: &Arc<Sim>, running: &Running) {
    let mut findings = Findings(Vec::new());
    let verified = verify(running.store.as_ref(), &mut findings).await;
    if let Err(error) = verified {
        sim.violation(format!("the books cannot be verified: {error:?}"));
    }
    for finding in findings.0 {
        sim.violation(finding);
    }
}

/// Every answer that anybody had stands in the books, as it was told.
fn answers_are_in_the_books(db: &super::database::Database, callers: &Callers) -> Vec<String> {
    let mut wrong = Vec::new();
    let desk = callers.desk();
    let (requests, rows) = (&db.tables.requests, &db.tables.transactions);
    for (place, asked) in desk.asked.iter().enumerate() {
        let (key, fingerprint) = asked.command.request.expect("a request id");
        let record = requests.committed().get(&key);
        for told in &asked.told {
            let is_there = match (&told.decision, record) {
                (Decision::Refused(Refusal::IdentifierTaken), _) => true,
                (Decision::Refused(_), _) => continue,
                (Decision::Recorded { transaction, .. }, Some(record)) => {
                    let row = rows
                        .committed()
                        .get(&TransactionId::from_uuid(record.subject_id));
                    record.subject == Subject::Transaction
                        && record.fingerprint == fingerprint
                        && row.is_some_and(|row| as_told(row) == as_told(transaction))
                }
                (Decision::Enrolled { member, .. }, Some(record)) => {
                    record.subject_id == member.uuid()
                        && db.tables.members.committed().contains_key(member)
                }
                _ => false,
            };
            if !is_there {
                wrong.push(format!(
                    "#{place} was told {:?}, the books say {record:?}",
                    told.decision
                ));
            }
        }
    }
    wrong
}
