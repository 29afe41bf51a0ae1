//! Connections of units, the warmest first.
//!
//! A connection that has served units has their statements prepared and planned, and what the catalog says
//! at hand; a new one takes as long as some ten batches for that, while calls queue up. sqlx's pool lends its
//! connections in turns, so that each of them is cold for as long as it can be, and takes one back a moment
//! after it was given, when the next unit has opened another. So units get theirs here: the one that was
//! given back last. The pool makes them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::{PgConnection, PgPool};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

/// A connection that rested for longer than this is asked whether it still is one.
pub(super) const TRUSTED_REST: Duration = Duration::from_secs(5);

/// How long one has to answer that question: then there are others, and new ones.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// A connection is not lent again after this, so that nothing that a server keeps for it grows for ever.
const LENT_MAX: Duration = Duration::from_mins(30);

/// Lends connections, each to one unit at a time.
#[derive(Debug)]
pub(super) struct Lender {
    /// Makes connections.
    pool: PgPool,
    /// One for each connection that there may be.
    permits: Arc<Semaphore>,
    connections: u32,
    shelf: Arc<Shelf>,
    /// How long whoever wants one waits.
    patience: Duration,
}

/// Connections that nobody has, the one given back last at the end.
#[derive(Debug, Default)]
struct Shelf(Mutex<Vec<Kept>>);

impl Shelf {
    fn take(&self) -> Option<Kept> {
        // A list is whole after every step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn give(&self, kept: Kept) {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.push(kept);
    }

    /// A connection is gone: the others may be, too.
    fn distrust(&self) {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for kept in shelf.iter_mut() {
            kept.is_trusted = false;
        }
    }
}

/// A connection, and what is known of it.
#[derive(Debug)]
struct Kept {
    connection: PgConnection,
    made: Instant,
    given_back: Instant,
    /// Whether it needs no question while it has rested for a short time only.
    is_trusted: bool,
    /// How many units it has served.
    served: u32,
}

impl Lender {
    /// Lends as many connections as `pool` may have, which is used by nobody else; those who wait for one
    /// wait for so long.
    pub(super) fn new(pool: PgPool, patience: Duration) -> Self {
        let connections = pool.options().get_max_connections();
        let permits = usize::try_from(connections).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            pool,
            permits: Arc::new(Semaphore::new(permits)),
            connections,
            shelf: Arc::default(),
            patience,
        }
    }

    /// A connection, once one is free.
    pub(super) async fn borrow(&self) -> Result<Lent, sqlx::Error> {
        // All of it: a server may leave a question unanswered, and a connection be dead without a word.
        let lent = timeout(self.patience, self.lent()).await;
        lent.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    async fn lent(&self) -> Result<Lent, sqlx::Error> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|_| sqlx::Error::PoolClosed)?;
        let kept = match self.kept().await {
            Some(kept) => kept,
            None => self.made().await?,
        };
        Ok(Lent {
            kept: Some(kept),
            shelf: Arc::clone(&self.shelf),
            _permit: permit,
        })
    }

    /// One from the shelf.
    async fn kept(&self) -> Option<Kept> {
        loop {
            let mut kept = self.shelf.take()?;
            if kept.made.elapsed() > LENT_MAX {
                continue;
            }
            if kept.is_trusted && kept.given_back.elapsed() <= TRUSTED_REST {
                return Some(kept);
            }
            let answer = timeout(ANSWER_MAX, kept.connection.ping()).await;
            if answer.is_ok_and(|answer| answer.is_ok()) {
                return Some(kept);
            }
        }
    }

    /// A new one.
    async fn made(&self) -> Result<Kept, sqlx::Error> {
        let connection = self.pool.acquire().await?;
        let now = Instant::now();
        Ok(Kept {
            connection: connection.detach(),
            made: now,
            given_back: now,
            is_trusted: true,
            served: 0,
        })
    }

    /// Closes all connections, after the units under way.
    pub(super) async fn close(&self) {
        // Whoever waits for a new one hears of it at once.
        let units_are_over = self.permits.acquire_many(self.connections);
        let (all, ()) = tokio::join!(units_are_over, self.pool.close());
        if let Ok(all) = all {
            self.permits.close();
            drop(all);
        }
        while let Some(kept) = self.shelf.take() {
            // It is given up either way.
            let _ = kept.connection.close().await;
        }
    }
}

/// A connection that is lent: given back as it is dropped, unless it is broken.
pub(super) struct Lent {
    kept: Option<Kept>,
    shelf: Arc<Shelf>,
    /// Let go after the connection has been given back.
    _permit: OwnedSemaphorePermit,
}

impl Lent {
    /// The connection, unless it is broken.
    pub(super) fn connection(&mut self) -> Option<&mut PgConnection> {
        self.kept.as_mut().map(|kept| &mut kept.connection)
    }

    /// Counts a unit that it serves: how many it has served before.
    pub(super) fn serves(&mut self) -> u32 {
        let served = self.kept.as_mut().map(|kept| &mut kept.served);
        served.map_or(0, |served| {
            let before = *served;
            *served = before.saturating_add(1);
            before
        })
    }

    /// It is broken, or nobody knows: it is never lent again.
    pub(super) fn breaks(&mut self) {
        self.kept = None;
        self.shelf.distrust();
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(mut kept) = self.kept.take() {
            kept.given_back = Instant::now();
            kept.is_trusted = true;
            self.shelf.give(kept);
        }
    }
}
