//! The narrow waist between the books and a database.
//!
//! A backend fetches and writes, it never decides: [`Unit`] is one database transaction with a
//! dozen set-based statements, [`Reader`] answers questions about what is committed, [`Scan`] reads
//! everything as of one instant. These three are written once, and every statement stands once, in
//! the SQL that both engines speak (`statements`). What an engine adds, [`mod@postgres`] and
//! [`mod@sqlite`] say side by side: how a set of rows gets into a statement, how the open window is
//! locked, what a failure means. The poster gathers commands into units of work.
//!
//! This crate alone names sqlx and rusqlite. Deliberately absent: arithmetic on points and money (the ledger's),
//! gRPC statuses (`rpc`'s).

pub mod books;
mod caught;
pub mod clock;
mod codec;
mod door;
mod durable;
pub mod error;
mod failure;
#[cfg(feature = "faults")]
pub mod faults;
mod migrate;
pub mod model;
pub mod open;
pub mod operations;
pub mod poster;
pub mod postgres;
mod reader;
mod scan;
mod session;
pub mod sqlite;
mod standing;
mod statements;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
pub mod traits;
mod unit;
pub mod verify;

pub use books::{Books, Present, TransactionKey};
pub use caught::Panic;
pub use clock::SystemClock;
pub use durable::Durable;
pub use error::StoreError;
pub use open::{PoolSettings, open};
pub use postgres::PostgresStore;
pub use sqlite::SqliteStore;
pub use store::WINDOW_LOG;
pub use traits::{Frame, LotDemand, Reader, Scan, Store, Traces, Unit, WindowLock};
