//! Answering the callers of a batch, once it is durable, beside the batches after it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::timings::{Step, Timings};
use super::{Decided, Job, PostError};

/// Batches that may wait to be durable; while so many do, posting waits too. One is what the disk is
/// at, the others have it come in one go.
const BATCHES_WAITING: usize = 4;

/// A batch that is committed, and whose callers wait.
pub(super) struct Settled {
    pub(super) jobs: Vec<Job>,
    pub(super) decided: Decided,
    pub(super) timings: Timings,
    pub(super) slow_batch: Duration,
}

/// Whoever answers.
pub(super) struct Teller {
    /// Whether a batch is on disk, and told, before the next one begins.
    one_by_one: bool,
    batches: mpsc::Sender<Settled>,
    task: JoinHandle<()>,
}

impl Teller {
    pub(super) fn start(one_by_one: bool) -> Self {
        let (batches, mut waiting) = mpsc::channel::<Settled>(BATCHES_WAITING);
        let task = tokio::spawn(async move {
            while let Some(batch) = waiting.recv().await {
                batch.tell().await;
            }
        });
        Self {
            one_by_one,
            batches,
            task,
        }
    }

    /// Answers the callers of a batch once it is durable; returns before, unless one by one.
    pub(super) async fn tell(&self, batch: Settled) {
        if self.one_by_one || batch.decided.durable.is_reached() {
            batch.tell().await;
        } else if let Err(unsent) = self.batches.send(batch).await {
            // The task is gone, which only a bug can bring about: the batch waits here.
            unsent.0.tell().await;
        }
    }

    /// Ends, after all have their answers.
    pub(super) async fn finish(self) {
        drop(self.batches);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "answering ended badly");
        }
    }
}

impl Settled {
    async fn tell(self) {
        let Self {
            jobs,
            decided,
            mut timings,
            slow_batch,
        } = self;
        let commands = decided.decisions.len();
        let durable = decided.durable.reached().await;
        timings.lap(Step::Sync);
        if let Some(first) = jobs.first() {
            timings.tell(commands, first.asked, slow_batch);
        }
        if let Err(error) = durable {
            let error = Arc::new(error);
            for job in jobs {
                let _ = job.answer.send(Err(PostError::Unknown(Arc::clone(&error))));
            }
            return;
        }
        let mut decisions = decided.decisions.into_iter();
        for job in jobs {
            let own = decisions.by_ref().take(job.commands.len()).collect();
            // A caller that left finds its answer by sending the request again.
            let _ = job.answer.send(Ok(own));
        }
    }
}
