//! What can go wrong between the books and a database.

use crate::caught::Panic;

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else wrote first: nothing of this unit of work is stored; run it again.
    #[error("another writer was first")]
    Conflict,
    /// All connections were in use for longer than anybody should wait; nothing is stored.
    #[error("all connections to the database are in use")]
    Busy,
    /// The database cannot be reached; nothing is stored.
    #[error("the database cannot be reached")]
    Unavailable(#[source] sqlx::Error),
    /// The connection was lost during the commit, or during a statement that is one: stored or not, only a
    /// retry can tell.
    #[error("the outcome of the commit is unknown")]
    UnknownCommit(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A bug: the work ended in a panic before its commit; nothing is stored.
    #[error("the work ended in a panic")]
    Panicked(#[source] Panic),
    /// A running sum would leave the range that the books can hold: nothing is stored.
    #[error("a running sum would leave the range that the books can hold")]
    OutOfRange,
    /// The database holds something that the books cannot hold.
    #[error("the books are damaged: {0}")]
    Damaged(String),
    /// The database is not one that this version can work on.
    #[error("{0}")]
    Unsuitable(String),
    /// Any other failure of the database.
    #[error("the database refused a statement")]
    Database(#[source] sqlx::Error),
}
