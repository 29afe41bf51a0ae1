//! One module per subcommand: its arguments, its help, and what it does.

pub mod bench;
pub mod demo;
pub mod migrate;
pub mod replay;
pub mod role;
pub(crate) mod signals;
pub mod token;
pub mod up;
pub mod verify;
