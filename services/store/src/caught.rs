//! Panics, turned into failures: a bug loses the work at hand, and nothing else.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use crate::durable::Durable;
use crate::error::StoreError;
use crate::traits::Unit;

/// What a panic said, for the log.
#[derive(Debug, thiserror::Error)]
#[error("panic: {0}")]
pub struct Panic(String);

impl Panic {
    pub(crate) fn of(panic: &(dyn Any + Send)) -> Self {
        let text = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned());
        Self(text.unwrap_or_else(|| "without a text".to_owned()))
    }
}

/// Runs `work`; a panic in it drops it where it stands. A unit of work that is dropped gives its
/// transaction up, and mint and rulebook are whole between any two steps, so that whoever lent them
/// can go on.
pub(crate) async fn caught<T>(work: impl Future<Output = T>) -> Result<T, Panic> {
    let mut work = pin!(work);
    poll_fn(
        |context| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(Panic::of(panic.as_ref()))),
        },
    )
    .await
}

/// Commits. A panic on the way there leaves open whether it is stored, like a lost connection.
pub(crate) async fn commit(unit: Box<dyn Unit>) -> Result<Durable, StoreError> {
    match caught(unit.commit_ahead()).await {
        Ok(committed) => committed,
        Err(panic) => Err(StoreError::UnknownCommit(panic.into())),
    }
}
