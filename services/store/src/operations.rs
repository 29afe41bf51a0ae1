//! What operators do, outside the stream of postings: cut a window, compute a settlement, register
//! partners and agreements, move a sandbox's clock.
//!
//! Each is one unit of work with the open window held alone, so that every batch sees it either
//! whole or not at all; each runs in a task of its own, so that a caller that leaves cuts nothing
//! in half. Requests are remembered like those of postings: the same id gets the same answer.

mod cut;
mod registry;
mod settle;

use std::sync::Arc;

use coalition_ledger::command::{Fingerprint, RequestKey};
use coalition_ledger::ids::IdMint;
use coalition_ledger::money::OutOfRange;
use coalition_ledger::rulebook::Rulebook;
use coalition_ledger::snapshot::{RequestRecord, Subject};
use coalition_ledger::{Clock, Timestamp};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::caught::{Panic, commit};
use crate::durable::Durable;
use crate::error::StoreError;
use crate::poster::{PostError, Poster};
use crate::traits::{Frame, Store, Unit, WindowLock};

pub use coalition_ledger::failure::Objection;
pub use cut::Cut;
pub(crate) use cut::totals_hash;
pub use registry::{AcceptAgreement, CreatePartner, ProposeAgreement};
pub use settle::{ComputeSettlement, code_of, method_of};

/// How often an operation runs again because another writer was first.
const ATTEMPTS: u32 = 8;

/// Why an operation has no result.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// It is not allowed.
    #[error(transparent)]
    Objection(#[from] Objection),
    /// Posting what was due failed.
    #[error(transparent)]
    Post(#[from] PostError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<OutOfRange> for OperationError {
    fn from(_: OutOfRange) -> Self {
        Objection::OutOfRange.into()
    }
}

/// Who asks, and under which id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationRequest {
    /// The request's name.
    pub key: RequestKey,
    /// A digest of its content.
    pub fingerprint: Fingerprint,
}

/// A result, and whether it is the answer to an earlier request under the same id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done<T> {
    /// The result.
    pub result: T,
    /// Whether it was given before.
    pub replayed: bool,
}

/// The operations of one network.
#[derive(Clone)]
pub struct Operations {
    store: Arc<dyn Store>,
    poster: Poster,
    clock: Arc<dyn Clock>,
    mint: Arc<Mutex<IdMint>>,
}

impl Operations {
    /// Operations on `store`; what is due is posted through `poster`. `seed` is random.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        poster: Poster,
        clock: Arc<dyn Clock>,
        seed: [u8; 6],
    ) -> Self {
        Self {
            store,
            poster,
            clock,
            mint: Arc::new(Mutex::new(IdMint::new(seed))),
        }
    }

    /// The network's time: a sandbox's clock, or the system's.
    pub async fn now(&self) -> Result<Timestamp, StoreError> {
        let network = self.store.reader().network().await?;
        Ok(network.clock.unwrap_or_else(|| self.clock.now()))
    }

    /// A new id.
    async fn mint(&self) -> Uuid {
        self.mint.lock().await.mint(self.clock.now())
    }

    /// Runs `work` in a task of its own, again while another writer is first.
    async fn run<T, W>(&self, work: W) -> Result<T, OperationError>
    where
        T: Send + 'static,
        W: AsyncWork<T>,
    {
        if self.poster.has_stopped() {
            return Err(PostError::Stopped.into());
        }
        let operations = self.clone();
        let task = tokio::spawn(async move {
            let mut attempt = 1;
            loop {
                match operations.attempt(&work).await {
                    Err(OperationError::Store(StoreError::Conflict)) if attempt < ATTEMPTS => {
                        attempt += 1;
                    }
                    Err(OperationError::Store(StoreError::Damaged(what))) => {
                        operations.poster.stop(&what);
                        return Err(PostError::Stopped.into());
                    }
                    done => return done,
                }
            }
        });
        match task.await {
            Ok(done) => done,
            Err(error) => {
                // A bug fails this call, and says nothing about the books.
                tracing::error!(%error, "an operation ended badly");
                let panic = error
                    .try_into_panic()
                    .map_err(|_| StoreError::Unavailable(sqlx::Error::PoolClosed))?;
                Err(StoreError::Panicked(Panic::of(panic.as_ref())).into())
            }
        }
    }

    async fn attempt<T, W: AsyncWork<T>>(&self, work: &W) -> Result<T, OperationError> {
        let (mut unit, frame) = self.store.begin(WindowLock::Exclusive).await?;
        let done = work.run(self, unit.as_mut(), &frame).await;
        let committed = match &done {
            Ok(_) => commit(unit).await,
            Err(_) => unit.rollback().await.map(|()| Durable::already()),
        };
        match (done, committed) {
            (Ok(done), Ok(durable)) => Ok(durable.reached().await.map(|()| done)?),
            // An objection is an answer too, and what it rests on may not be on disk.
            (Ok(_) | Err(OperationError::Objection(_)), Err(error)) => Err(error.into()),
            (Err(error), Err(second)) => {
                tracing::debug!(error = %second, "rolling back failed too");
                Err(error)
            }
            (Err(error), Ok(_)) => Err(error),
        }
    }
}

/// One unit of work that an operation consists of; it may run several times.
#[async_trait::async_trait]
trait AsyncWork<T>: Send + Sync + 'static {
    async fn run(
        &self,
        operations: &Operations,
        unit: &mut dyn Unit,
        frame: &Frame,
    ) -> Result<T, OperationError>;
}

/// The id of what this request led to before, if it was seen.
async fn earlier(
    unit: &mut dyn Unit,
    request: &OperationRequest,
    subject: Subject,
) -> Result<Option<Uuid>, OperationError> {
    let Some(record) = unit.requests(&[request.key]).await?.pop() else {
        return Ok(None);
    };
    if record.fingerprint != request.fingerprint || record.subject != subject {
        return Err(Objection::RequestIdReused.into());
    }
    Ok(Some(record.subject_id))
}

/// Remembers what a request led to.
async fn remember(
    unit: &mut dyn Unit,
    request: &OperationRequest,
    subject: Subject,
    subject_id: Uuid,
) -> Result<(), StoreError> {
    let OperationRequest { key, fingerprint } = *request;
    let record = RequestRecord {
        key,
        fingerprint,
        subject,
        subject_id,
        member: None,
    };
    unit.remember(&record).await
}

/// The network's time within a unit.
fn now_in(frame: &Frame, clock: &dyn Clock) -> Timestamp {
    frame.clock.unwrap_or_else(|| clock.now())
}

/// The rulebook as of a unit.
async fn rulebook_in(unit: &mut dyn Unit) -> Result<Rulebook, StoreError> {
    unit.rulebook().await
}
