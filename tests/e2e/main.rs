//! The network from outside: real nodes, real sockets, the public API, on both engines.
//!
//! One test program, so that it links once. Each module is about one promise; how nodes are started
//! and called stands in the library of this crate.

mod access;
mod agreements;
mod bad_input;
mod bad_tokens;
mod books;
mod declines;
mod demo;
mod extremes;
mod golden;
mod hostile;
mod limits;
mod members;
mod production;
mod races;
mod replay;
mod retries;
mod rules;
mod sale;
mod split;
mod startup;
mod windows;

use std::io::Write as _;

/// Says something on the terminal, past the capture of passing tests.
fn told(what: &str) {
    // Nobody is there to be told if this fails.
    let _ = writeln!(std::io::stderr(), "{what}");
}
