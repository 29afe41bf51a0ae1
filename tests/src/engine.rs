//! Running one scenario on one engine.

use std::io::Write as _;
use std::pin::pin;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

pub use coalition_store::testing::Engine;

use crate::network::Network;

/// Longest that one scenario may take before it counts as stuck.
const SCENARIO_MAX: Duration = Duration::from_mins(10);

/// Threads of one scenario's runtime, the node's tasks included.
const THREADS: usize = 2;

/// Runs a scenario on a new network; afterwards the books must verify, and the network must stop.
///
/// Without a PostgreSQL server a test on it says that it did not run, and passes; it fails where
/// `CI=true`.
pub fn run(engine: Engine, scenario: impl AsyncFnOnce(&Network)) {
    bounded(async {
        let Some(network) = Network::start(engine).await else {
            not_run("PostgreSQL: no server binaries found");
            return;
        };
        scenario(&network).await;
        network.assert_books_balance().await;
        network.stop().await;
    });
}

/// Runs something asynchronous to its end, and panics if it takes longer than any test should.
pub fn bounded<T>(work: impl Future<Output = T>) -> T {
    bounded_by(SCENARIO_MAX, work)
}

/// Runs something asynchronous to its end, and panics if it takes longer than this.
pub fn bounded_by<T>(longest: Duration, work: impl Future<Output = T>) -> T {
    runtime().block_on(async {
        // Still there when this panics, so that processes tell what they logged.
        let mut work = pin!(work);
        let done = timeout(longest, work.as_mut()).await;
        done.unwrap_or_else(|_| panic!("still at work after {} s", longest.as_secs()))
    })
}

/// Says on the terminal, past the capture of passing tests, that a test did not run.
pub fn not_run(why: &str) {
    // Nobody is there to be told if this fails.
    let _ = writeln!(std::io::stderr(), "NOT RUN on {why}");
}

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .expect("the system has threads")
}
