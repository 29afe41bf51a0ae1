//! When SQLite copied its log into the file, seen from outside.
//!
//! The index of the log, a file beside the database, says how many pages the log holds (file format
//! of SQLite, section "The WAL-Index File Format": `mxFrame`, at byte 16). After a checkpoint the log
//! begins again, so the number falls.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coalition_ledger::Clock as _;
use coalition_store::SystemClock;
use tokio::task::JoinHandle;
use tokio::time::interval;

use super::server_log::Chore;

/// How often it is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// Where the number of pages stands.
const PAGES_AT_BYTE: u64 = 16;

/// The log begins again with the batch after the one that copied it, in microseconds.
const BATCH_AFTER: i64 = 15_000;

/// Watches a log until it is dropped.
pub(super) struct Watch {
    seen: Arc<Mutex<Vec<Chore>>>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Watches the log of this database.
    pub(super) fn begin(database: &Path) -> Self {
        let mut path = database.as_os_str().to_owned();
        path.push("-shm");
        let path = PathBuf::from(path);
        let seen = Arc::<Mutex<Vec<Chore>>>::default();
        let own = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut looks = interval(LOOK_INTERVAL);
            let mut index = None;
            let mut before = 0;
            loop {
                looks.tick().await;
                let Some(file) = index.take().or_else(|| File::open(&path).ok()) else {
                    continue;
                };
                let pages = pages(&file).unwrap_or(0);
                if pages < before {
                    let now = SystemClock.now().micros();
                    let chore = Chore {
                        what: "a checkpoint (the log is copied into the file)".to_owned(),
                        from: now.saturating_sub(BATCH_AFTER),
                        to: now,
                    };
                    own.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(chore);
                }
                before = pages;
                index = Some(file);
            }
        });
        Self { seen, task }
    }

    /// What was seen.
    pub(super) fn end(self) -> Vec<Chore> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn pages(index: &File) -> Option<u32> {
    let mut bytes = [0; 4];
    index.read_exact_at(&mut bytes, PAGES_AT_BYTE).ok()?;
    Some(u32::from_ne_bytes(bytes))
}
