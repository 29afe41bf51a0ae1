//! What end-to-end tests stand on: a real network on a real socket, and callers with real tokens.
//!
//! [`Network`] is a node with a database of its own, SQLite or PostgreSQL; [`Caller`] calls it as a
//! till, a partner's office or the operator would, over gRPC with a bearer token; [`Partner`] and
//! [`terms`] are shorthand for what most scenarios need. [`both_engines!`] makes one test of each
//! scenario per engine, and has the books verified after each. [`process`] runs the binary itself.
//! Deliberately absent: mocks, and any way into the books but the public API ([`Network::edit`]
//! stands in for a hand in the database).

#![expect(
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    reason = "this is how a test fails: what is called here panics when the network does not do its part"
)]

pub mod awkward;
pub mod caller;
pub mod crowd;
pub mod engine;
pub mod figures;
pub mod fleet;
pub mod network;
pub mod partner;
pub mod process;
pub mod rpc;
pub mod terms;

pub use caller::{Caller, Refusal};
pub use engine::run;
pub use network::{Books, Network};
pub use partner::Partner;

/// The operator, where a party is named.
pub const OPERATOR: &str = "OPERATOR";

/// A new name for a request.
pub fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Makes two tests of each scenario, `on_sqlite` and `on_postgres`, in a module of its name.
///
/// A scenario is an `async fn(&Network)`; see [`run`] for what happens around it.
#[macro_export]
macro_rules! both_engines {
    ($($scenario:ident),+ $(,)?) => {$(
        mod $scenario {
            #[test]
            fn on_sqlite() {
                $crate::run($crate::engine::Engine::Sqlite, super::$scenario);
            }

            #[test]
            fn on_postgres() {
                $crate::run($crate::engine::Engine::Postgres, super::$scenario);
            }
        }
    )+};
}
