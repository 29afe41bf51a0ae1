//! The coalition binary: one process or many.
//!
//! [`cli`] reads the command line, [`config`] what is configured, [`node`] wires the services into a
//! running process, [`commands`] holds one module per subcommand, [`client`] calls a network as
//! anybody from outside does. Nothing here knows points, money or SQL: the crates that are wired do.
//! [`RunningNode`] is also what tests start.

pub mod cli;
pub mod client;
pub mod commands;
pub mod config;
pub mod logging;
pub mod node;

pub use config::Config;
pub use node::{Roles, RunningNode};
