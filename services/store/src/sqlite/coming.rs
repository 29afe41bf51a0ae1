//! How rows come from SQLite's thread to ours.
//!
//! That thread hands over each row as it finds it, and wakes whoever sleeps until then. The rows of a
//! batch follow one another in microseconds; being woken takes longer, on both sides. So once the first
//! is there, whoever others wait for is not woken for the next, but looks for it.

use futures::{FutureExt as _, Stream, TryStreamExt as _};

/// How often a unit looks for the next row in vain before it is woken for it after all: some tens of
/// microseconds.
pub(super) const LOOKS: usize = 64;

/// Rows on their way.
pub(super) struct Coming<S> {
    rows: S,
    looks: usize,
    has_begun: bool,
}

impl<T, S: Stream<Item = Result<T, sqlx::Error>> + Unpin> Coming<S> {
    /// Rows that are looked for so often before they are waited for.
    pub(super) fn new(rows: S, looks: usize) -> Self {
        Self {
            rows,
            looks,
            has_begun: false,
        }
    }

    /// The next row, if there is one more.
    pub(super) async fn next(&mut self) -> Result<Option<T>, sqlx::Error> {
        if std::mem::replace(&mut self.has_begun, true) {
            for _ in 0..self.looks {
                // Asked like this, nobody is woken for what is not there yet.
                if let Some(next) = self.rows.try_next().now_or_never() {
                    return next;
                }
                // Other tasks go first, where there are any, and SQLite's thread.
                tokio::task::yield_now().await;
                std::thread::yield_now();
            }
        }
        self.rows.try_next().await
    }
}

#[cfg(test)]
mod tests {
    use futures::channel::mpsc::{UnboundedReceiver, unbounded};

    use super::*;

    async fn all(mut rows: Coming<UnboundedReceiver<Result<u32, sqlx::Error>>>) -> Vec<u32> {
        let mut all = Vec::new();
        while let Ok(Some(row)) = rows.next().await {
            all.push(row);
        }
        all
    }

    /// The thread that finds them is slower than we look, or faster.
    #[tokio::test]
    async fn rows_come_whole_and_in_order_however_often_they_are_looked_for() {
        for looks in [0, 1, LOOKS, usize::MAX] {
            let (found, rows) = unbounded();
            let finding = std::thread::spawn(move || {
                for row in 0..1_000 {
                    if row % 100 == 0 {
                        std::thread::park_timeout(std::time::Duration::from_millis(1));
                    }
                    found.unbounded_send(Ok(row)).expect("somebody reads");
                }
            });
            let come = all(Coming::new(rows, looks)).await;
            finding.join().expect("ends");
            assert_eq!(come, (0..1_000).collect::<Vec<_>>(), "{looks} looks");
        }
    }

    #[tokio::test]
    async fn a_failure_on_the_way_is_told() {
        let (found, rows) = unbounded();
        for row in [Ok(1), Ok(2), Err(sqlx::Error::WorkerCrashed)] {
            found.unbounded_send(row).expect("somebody reads");
        }
        let mut rows = Coming::new(rows, LOOKS);
        assert_eq!(rows.next().await.expect("is a row"), Some(1));
        assert_eq!(rows.next().await.expect("is a row"), Some(2));
        assert!(matches!(rows.next().await, Err(sqlx::Error::WorkerCrashed)));
    }
}
