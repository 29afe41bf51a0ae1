//! What the tests share: a network in memory, and short ways to say what is to be done in it.
//!
//! Deliberately absent: anything that decides. [`store`] fetches and writes as a real store does;
//! [`network`] retries as the poster does.

pub(crate) mod commands;
pub(crate) mod network;
pub(crate) mod store;
pub(crate) mod words;

pub(crate) use commands::{
    deposit, earn, enroll, redeem, refund, return_earn, reverse, sweep, withdraw,
};
pub(crate) use network::{Builder, Network};
pub(crate) use store::{MemoryStore, Thrift};
pub(crate) use words::{
    DAY, HOUR, MINUTE, START, after, dec, declined, euros, instant, member, partner, posted, terms,
};
