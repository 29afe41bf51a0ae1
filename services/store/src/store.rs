//! A store is an engine: what is said once for both.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use coalition_ledger::time::Timestamp;
use tokio::time::Instant;

use crate::codec::{Rows, registry};
use crate::error::StoreError;
use crate::migrate;
use crate::model::{KeyFingerprint, Network, NetworkTerms};
use crate::scan::Picture;
use crate::session::{Engine, Session, fetch_one};
use crate::statements as sql;
use crate::traits::{Frame, Reader, Scan, Store, Unit, WindowLock};
use crate::unit::{Work, not_set_up};

/// Under which target the log tells, at level debug, who waited how long for the open window: one
/// line when a unit of work has it (or has had it, for so long), one when whoever had it alone gives it back,
/// and one before a batch asks for it alone.
pub const WINDOW_LOG: &str = "coalition_store::window";

/// Held while a unit of work has the open window; tells the log when one that had it alone gives it back.
#[derive(Debug)]
pub(crate) struct Hold {
    lock: WindowLock,
    since: Instant,
}

impl Hold {
    /// The window that was asked for at `asked` is held.
    pub(crate) fn begin(lock: WindowLock, asked: Instant) -> Self {
        let since = Instant::now();
        tell(lock, since.duration_since(asked), Duration::ZERO);
        Self { lock, since }
    }

    /// The window was asked for at `asked` with others, was had after `waited`, and is given back.
    pub(crate) fn is_over(asked: Instant, waited: Duration) {
        let held = asked.elapsed().saturating_sub(waited);
        tell(WindowLock::Shared, waited, held);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.lock == WindowLock::Exclusive {
            let held_us = micros(self.since.elapsed());
            tracing::debug!(target: WINDOW_LOG, held_us, "free");
        }
    }
}

/// Tells the log that the window has been held for so long, after so long a wait.
fn tell(lock: WindowLock, waited: Duration, held: Duration) {
    let (waited_us, for_us) = (micros(waited), micros(held));
    tracing::debug!(target: WINDOW_LOG, ?lock, waited_us, for_us, "held");
}

/// A span in whole microseconds, for the log.
fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[async_trait]
impl<E: Engine> Store for E {
    async fn migrate(&self, terms: &NetworkTerms, now: Timestamp) -> Result<Network, StoreError> {
        Engine::migrate(self).await?;
        migrate::set_up(
            Engine::begin(self, WindowLock::Exclusive).await?,
            terms,
            now,
        )
        .await
    }

    fn is_at_hand(&self) -> bool {
        Engine::is_at_hand(self)
    }

    async fn check_schema(&self) -> Result<(), StoreError> {
        Engine::check_schema(self).await
    }

    async fn attach(&self, identifier_key: &KeyFingerprint) -> Result<Network, StoreError> {
        migrate::attach(self, identifier_key).await
    }

    async fn begin(&self, lock: WindowLock) -> Result<(Box<dyn Unit>, Frame), StoreError> {
        let asked = Instant::now();
        let standing = self.standing();
        let lock = match lock {
            WindowLock::Deferred => {
                if let Some(standing) = standing
                    && let Some(stood) = standing.get()
                {
                    let session = self.begin_deferred().await?;
                    let unit = Work::deferred(session, Arc::clone(standing), stood);
                    return Ok((Box::new(unit), stood.0));
                }
                WindowLock::Shared
            }
            lock => lock,
        };
        // Read after the lock is held: what the last cut or change of the rulebook left.
        let (session, frame) = self
            .begin_asking(lock, &sql::FRAME, registry::read_frame)
            .await?;
        let hold = Hold::begin(lock, asked);
        let Some(stood) = frame else {
            session.rollback().await?;
            return Err(not_set_up());
        };
        if let Some(standing) = standing {
            // Whoever holds it alone may be about to change it.
            standing.set((lock == WindowLock::Shared).then_some(stood));
        }
        Ok((Box::new(Work::holding(session, hold, stood)), stood.0))
    }

    fn reader(&self) -> &dyn Reader {
        self
    }

    async fn scan(&self) -> Result<Box<dyn Scan>, StoreError> {
        let mut session = self.snapshot().await?;
        // The first question takes the picture: all of it is durable, once that is.
        fetch_one(
            &mut session,
            &sql::FRAME,
            Rows::none(),
            registry::read_frame,
        )
        .await?;
        session.seen().reached_for_reading().await?;
        Ok(Box::new(Picture::new(session)))
    }

    async fn failed(&self) {
        Engine::failed(self).await;
    }

    async fn close(&self) {
        Engine::close(self).await;
    }
}
