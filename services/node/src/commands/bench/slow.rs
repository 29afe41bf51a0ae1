//! What a node tells of batches that took long.

use std::sync::{Arc, Mutex, PoisonError};

use coalition_store::poster::SLOW_BATCHES;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::ChildStderr;

/// Where the time of one batch went, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Spent {
    #[serde(rename = "queue_us")]
    pub(super) queue: u64,
    #[serde(rename = "begin_us")]
    pub(super) begin: u64,
    #[serde(rename = "fetch_us")]
    pub(super) fetch: u64,
    #[serde(rename = "decide_us")]
    pub(super) decide: u64,
    #[serde(rename = "write_us")]
    pub(super) write: u64,
    #[serde(rename = "commit_us")]
    pub(super) commit: u64,
    #[serde(rename = "retry_us")]
    pub(super) retry: u64,
    /// The next batch is at work meanwhile.
    #[serde(rename = "sync_us")]
    pub(super) sync: u64,
}

impl Spent {
    /// The steps of the batch itself; its calls' wait for the batch before is none. The last is beside
    /// the steps of the next batch.
    pub(super) fn steps(&self) -> [(&'static str, u64); 7] {
        [
            ("begin", self.begin),
            ("fetch", self.fetch),
            ("decide", self.decide),
            ("write", self.write),
            ("commit", self.commit),
            ("other writers", self.retry),
            ("sync", self.sync),
        ]
    }

    /// The step that took longest.
    pub(super) fn longest(&self) -> (&'static str, u64) {
        let steps = self.steps().into_iter();
        steps.max_by_key(|(_, took)| *took).unwrap_or_default()
    }
}

/// A batch that took long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SlowBatch {
    /// When it was durable, in microseconds since 1970.
    pub(super) ended: i64,
    pub(super) commands: u64,
    pub(super) attempts: u64,
    pub(super) spent: Spent,
}

impl SlowBatch {
    /// How long the batch itself took, in microseconds.
    pub(super) fn own(&self) -> u64 {
        self.spent.steps().iter().map(|(_, took)| took).sum()
    }

    /// One line of a node's log, if it is about a slow batch.
    fn read(line: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Line {
            timestamp: String,
            target: String,
            commands: u64,
            attempts: u64,
            #[serde(flatten)]
            spent: Spent,
        }
        // Cheap, for the lines that are not.
        if !line.contains(SLOW_BATCHES) {
            return None;
        }
        let line: Line = serde_json::from_str(line).ok()?;
        let ended: jiff::Timestamp = line.timestamp.parse().ok()?;
        let ended = ended.as_microsecond();
        (line.target == SLOW_BATCHES).then_some(Self {
            ended,
            commands: line.commands,
            attempts: line.attempts,
            spent: line.spent,
        })
    }
}

/// Listens to what a node tells.
#[derive(Clone, Debug, Default)]
pub(super) struct SlowBatches(Arc<Mutex<Vec<SlowBatch>>>);

impl SlowBatches {
    /// Reads a node's log to its end; lines about something else go on to our own log.
    pub(super) fn listen(log: ChildStderr) -> Self {
        let heard = Self::default();
        let own = heard.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(log).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                match SlowBatch::read(&line) {
                    Some(batch) => own.lock().push(batch),
                    None => eprintln!("{line}"),
                }
            }
        });
        heard
    }

    /// All that were told of, in the order in which they ended.
    pub(super) fn so_far(&self) -> Vec<SlowBatch> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<SlowBatch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_batch_is_read_from_the_log() {
        let line = r#"{"timestamp":"2026-01-02T03:04:05.250000Z","level":"WARN","message":"a batch
            took long","commands":210,"attempts":1,"total_us":39000,"queue_us":2000,"begin_us":300,
            "fetch_us":1200,"decide_us":500,"write_us":2000,"commit_us":30000,"retry_us":0,
            "sync_us":5000,"target":"coalition::slow_batch"}"#
            .replace('\n', " ");
        let batch = SlowBatch::read(&line).unwrap();
        assert_eq!(batch.ended % 1_000_000, 250_000);
        assert_eq!((batch.commands, batch.own()), (210, 39_000));
        assert_eq!(batch.spent.longest(), ("commit", 30_000));
        assert_eq!(SlowBatch::read(&line.replace("slow_batch", "else")), None);
        assert_eq!(SlowBatch::read("coalition::slow_batch"), None);
    }
}
