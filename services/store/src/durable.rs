//! A commit on its way to the disk.

use std::future::Future;

use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::error::StoreError;

/// Something that is committed, so that everybody works on with it, and that may not be on disk yet:
/// nobody may be told before it is.
#[must_use = "nobody may be told before it is on disk"]
pub struct Durable(Option<BoxFuture<'static, Result<(), StoreError>>>);

impl Durable {
    /// It is on disk.
    pub const fn already() -> Self {
        Self(None)
    }

    /// It will be on disk once `reached` is over.
    pub fn once(reached: impl Future<Output = Result<(), StoreError>> + Send + 'static) -> Self {
        Self(Some(reached.boxed()))
    }

    /// Whether there is nothing to wait for.
    #[must_use]
    pub const fn is_reached(&self) -> bool {
        self.0.is_none()
    }

    /// Waits until it is on disk. A failure leaves open whether it is, and ever will be.
    ///
    /// # Errors
    ///
    /// `UnknownCommit`.
    pub async fn reached(self) -> Result<(), StoreError> {
        match self.0 {
            None => Ok(()),
            Some(reached) => reached.await,
        }
    }

    /// The same, for whoever has only read.
    ///
    /// # Errors
    ///
    /// `Unavailable`.
    pub async fn reached_for_reading(self) -> Result<(), StoreError> {
        self.reached().await.map_err(|error| match error {
            StoreError::UnknownCommit(error) => {
                StoreError::Unavailable(sqlx::Error::Io(std::io::Error::other(error)))
            }
            error => error,
        })
    }
}
