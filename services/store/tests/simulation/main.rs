//! A simulation of the poster, the operations and the ledger over a database in memory, seeded.
//!
//! One to four processes, each with the real poster and the real operations, work on one database
//! for three to eight tills and an operator. Every call to the database is a point at which others
//! go on, decided by the seed; time is simulated. Tills earn, return, redeem, refund, reverse (known
//! requests, declined ones, and some before they arrive), pay in and out, enrol; alone and several
//! in one call; twice at once, again, and under ids that were used for something else. The operator
//! moves the clock, sweeps, cuts and agrees new terms. Members, checks and limits are few and small,
//! so that they meet.
//!
//! **What goes wrong**: a write finds a conflict that nobody caused; a statement or a begin fails; a
//! commit fails; a commit's answer is lost, stored or not; a caller leaves; a process is killed in
//! the middle of anything; a process is shut down and another started.
//!
//! **What the database does** is what PostgreSQL does at "read committed": a statement sees what is
//! committed by then, a row that is written is held until the unit ends, whoever wants it waits and
//! then judges it anew, circles are conflicts, the window's lock queues fairly.
//!
//! **A failure is**
//!
//! 1. an answer that is not in the books exactly as told; two answers to one request that differ, or
//!    that both claim to be the first;
//! 2. "nothing was done" where something was; a request that a quiet network does not answer;
//! 3. any failure of a call in fair weather, `Stopped` and "queue full" ever;
//! 4. a posting into a window that is not open; a cut that names another last posting than there is;
//!    two answers to one cut;
//! 5. positions that do not cancel after any commit; charges that take a headroom below zero, or
//!    further below;
//! 6. a unit that is refused at a row which nobody has changed since it began;
//! 7. a statement in a unit that has failed;
//! 8. a finding of `verify`;
//! 9. a row, a refusal or a sum that the plain model of the domain (`services/ledger/tests/model.rs`),
//!    led through the commits in their order, sees otherwise;
//! 10. a run that does not end.
//!
//! **Not a failure is** a decline for a limit, for funds or for a check's number that was right when
//! the batch began and is not when it commits; a batch that passes below a limit half way and not
//! as a whole; a call that fails while something goes wrong; an operation that gives up because
//! others were first.
//!
//! **Not simulated**: settlements, the registering of partners, holds, clocks of processes that
//! differ, the SQL and the codecs (the conformance tests hold those).
//!
//! Most of a run's time is unoptimised code: five times as many seeds take as long, once built, with
//! `cargo --config 'profile.dev.package.coalition-store.opt-level=1' test …`.
//!
//! ```sh
//! COALITION_SIM_SEED=123 cargo test -p coalition-store --test simulation whatever -- --nocapture
//! COALITION_SIM_SEEDS=100000 COALITION_SIM_FROM=1000000 cargo test -p coalition-store --test simulation whatever
//! COALITION_TEST_FULL=1 cargo test -p coalition-store --test simulation
//! ```

mod callers;
mod checks;
mod database;
mod desk;
#[expect(dead_code, reason = "the ledger's own tests ask more of it")]
#[path = "../../../ledger/tests/model.rs"]
mod model;
mod pool;
mod replay;
mod run;
mod sim;
mod store;
mod table;
mod till;
mod unit;
mod weather;
mod work;
mod world;

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use run::{Outcome, run};
use sim::Planted;

/// Seeds that a test run goes through, unless told otherwise: about half a minute on two cores.
const SEEDS: u64 = 2_000;
/// Seeds of the full form.
const SEEDS_FULL: u64 = 10_000;
/// Seeds within which a planted bug must be found.
const SEEDS_PER_BUG: u64 = 1_000;
/// Failing seeds after which a test run stops.
const SEEDS_SHOWN: usize = 5;
/// Seeds that are run twice.
const SEEDS_TWICE: u64 = 50;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is a number")),
    )
}

/// Runs a seed; a panic is a failure like any other.
fn outcome(seed: u64, bug: Option<Planted>, traced: bool) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| run(seed, bug, traced))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Outcome {
            violations: vec![format!("a panic: {}", text.unwrap_or_default())],
            trace: Vec::new(),
            commits: 0,
            commands: 0,
        }
    })
}

#[test]
fn whatever_happens_the_books_hold() {
    if let Some(seed) = number("COALITION_SIM_SEED") {
        let outcome = outcome(seed, None, true);
        for line in &outcome.trace {
            println!("{line}");
        }
        let report = outcome.report(seed);
        assert!(report.is_none(), "{}", report.unwrap_or_default());
        return;
    }
    let first = number("COALITION_SIM_FROM").unwrap_or(0);
    let seeds = number("COALITION_SIM_SEEDS").unwrap_or(match number("COALITION_TEST_FULL") {
        Some(1) => SEEDS_FULL,
        _ => SEEDS,
    });
    let next = AtomicU64::new(first);
    let (commits, commands) = (AtomicU64::new(0), AtomicUsize::new(0));
    let reports: Mutex<Vec<String>> = Mutex::default();
    let failed = || reports.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds || failed().len() >= SEEDS_SHOWN {
                        return;
                    }
                    let outcome = outcome(seed, None, false);
                    commits.fetch_add(outcome.commits, Ordering::Relaxed);
                    commands.fetch_add(outcome.commands, Ordering::Relaxed);
                    if let Some(report) = outcome.report(seed) {
                        failed().push(report);
                    }
                }
            });
        }
    });
    assert!(failed().is_empty(), "{}", failed().join("\n\n"));
    println!("{seeds} seeds, {commands:?} commands, {commits:?} commits: nothing found");
}

#[test]
fn a_seed_names_a_run() {
    for seed in 0..SEEDS_TWICE {
        let (first, second) = (outcome(seed, None, true), outcome(seed, None, true));
        assert!(first.trace.len() > 100, "seed {seed} leaves a trace");
        let pairs = first.trace.iter().zip(&second.trace);
        for (place, (one, other)) in pairs.enumerate() {
            assert_eq!(one, other, "seed {seed}, line {place}");
        }
        assert_eq!(first.trace.len(), second.trace.len(), "seed {seed}");
    }
}

fn is_found(bug: Planted) {
    let found = (0..SEEDS_PER_BUG).find_map(|seed| {
        let violations = outcome(seed, Some(bug), false).violations;
        Some((seed, violations.into_iter().next()?))
    });
    let (seed, violation) =
        found.unwrap_or_else(|| panic!("{bug:?} is not found in {SEEDS_PER_BUG} seeds"));
    println!("{bug:?} is found by seed {seed}: {violation}");
}

#[test]
fn a_lost_version_check_is_found() {
    is_found(Planted::LostVersionCheck);
}

#[test]
fn a_forgotten_headroom_decrement_is_found() {
    is_found(Planted::ForgottenHeadroom);
}

#[test]
fn a_window_read_before_the_lock_is_found() {
    is_found(Planted::WindowBeforeLock);
}

#[test]
fn a_forgotten_frame_is_found() {
    is_found(Planted::ForgottenFrame);
}
