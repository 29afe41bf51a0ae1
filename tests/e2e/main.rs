//! The network from outside: real nodes, real sockets, the public API, on both engines.
//!
//! One test program, so that it links once. Each module is about one promise; how nodes are started
//! and called stands in the library of this crate.

mod access;
mod agreements;
mod bad_input;
mod bad_tokens;
mod bench;
mod books;
mod declines;
mod demo;
mod extremes;
mod fire;
mod golden;
mod hostile;
mod killed;
mod limits;
mod members;
mod production;
mod races;
mod replay;
mod retries;
mod rules;
mod sale;
mod shutdown;
mod split;
mod startup;
mod windows;

use std::io::Write as _;

/// Says something on the terminal, past the capture of passing tests.
fn told(what: &str) {
    // Nobody is there to be told if this fails.
    let _ = writeln!(std::io::stderr(), "{what}");
}

/// Whether the long form of long tests is asked for.
fn is_full() -> bool {
    std::env::var("COALITION_TEST_FULL").is_ok_and(|full| full == "1")
}

/// Randomness for a test: by the seed that is asked for, or by one of its own; either way it is told.
fn seeded(test: &str) -> fastrand::Rng {
    let asked = std::env::var("COALITION_TEST_SEED").ok();
    let asked = asked.map(|seed| seed.parse().expect("COALITION_TEST_SEED is a number"));
    let seed = asked.unwrap_or_else(|| fastrand::u64(..));
    told(&format!("{test}: COALITION_TEST_SEED={seed}"));
    fastrand::Rng::with_seed(seed)
}
