//! The books of a coalition network as pure functions.
//!
//! No I/O, no clock, no floats, no panics: the same rulebook, snapshot and commands give the same
//! answers and the same effects, always. Read [`ids`] and [`money`] for the words, [`agreement`]
//! and [`leg`] for the terms, [`member`] and [`account`] for the books, then [`apply`], where
//! everything is decided.

// Tests may add up as they like: what overflows there fails there.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

pub mod account;
pub mod agreement;
pub mod apply;
pub mod audit;
pub mod clock;
pub mod command;
pub mod decision;
pub mod failure;
pub mod figures;
pub mod ids;
pub mod leg;
pub mod member;
pub mod money;
pub mod netting;
#[cfg(feature = "testing")]
pub mod planted;
pub mod rulebook;
pub mod snapshot;
pub mod split;
pub mod time;
pub mod transaction;
pub mod trial;
pub mod view;

pub use clock::Clock;
pub use time::Timestamp;
