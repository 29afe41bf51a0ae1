//! Bringing SQLite's log to the disk beside the writer, not within its commits.
//!
//! A commit appends to the log and is seen by everybody from then on; on disk it is after a sync of
//! the log, which takes as long as the rest of a batch. Left to SQLite, the next batch waits for that.
//! Here a thread of our own syncs while the next batch runs, and whoever tells anybody of the books,
//! of a posting or in answer to a question, waits until what it tells is on disk. One sync serves all
//! commits before it. The order on disk is SQLite's: frames with chained checksums, of which a
//! recovery takes what is whole from the beginning; so a commit that is on disk has all before it.
//!
//! After a sync that failed, here or of the file that the log is copied into, nobody knows what is on
//! disk, and the system may say nothing of it the next time: nothing is answered any more until the
//! file is opened again, which copies all of the log before anything else.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::watch;

use super::primary_code;
use crate::durable::Durable;
use crate::error::StoreError;
#[cfg(feature = "faults")]
use crate::faults::Faults;

/// The log of a file, and the thread that syncs it until this is dropped.
#[derive(Debug)]
pub(super) struct Log {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    state: Mutex<State>,
    more: Condvar,
    synced: watch::Sender<Synced>,
}

/// Commits, counted.
#[derive(Debug, Default)]
struct State {
    /// Those that were begun: some may be seen already.
    begun: u64,
    /// Those that are over: what they wrote is in the log.
    written: u64,
    is_closed: bool,
    #[cfg(feature = "faults")]
    faults: Option<Faults>,
}

/// How far the log is on disk.
#[derive(Clone, Debug, Default)]
struct Synced {
    commits: u64,
    /// Why no more will be.
    failure: Option<Arc<io::Error>>,
}

impl Log {
    /// The log of the database at `path`.
    pub(super) fn of(path: &Path) -> Result<Self, StoreError> {
        let mut name = path.as_os_str().to_owned();
        name.push("-wal");
        let shared = Arc::new(Shared {
            path: name.into(),
            state: Mutex::default(),
            more: Condvar::new(),
            synced: watch::Sender::new(Synced::default()),
        });
        let syncing = Arc::clone(&shared);
        let thread = thread::Builder::new().name("sqlite-log".to_owned());
        let spawned = thread.spawn(move || syncing.sync_what_comes());
        spawned.map_err(|error| StoreError::Unavailable(sqlx::Error::Io(error)))?;
        Ok(Self { shared })
    }

    /// A commit is under way.
    pub(super) fn committing(&self) {
        let mut state = self.shared.state();
        state.begun = state.begun.saturating_add(1);
    }

    /// Every commit that was begun is over, well or not: the log is synced.
    pub(super) fn written(&self) {
        let mut state = self.shared.state();
        if state.written < state.begun {
            state.written = state.begun;
            self.shared.more.notify_one();
        }
    }

    /// Whether that was the disk's own failure: then nothing is relied on any more.
    pub(super) fn watch(&self, error: &sqlx::Error) -> bool {
        // SQLITE_IOERR.
        let is_disk = matches!(error, sqlx::Error::Io(_)) || primary_code(error) == Some(10);
        if is_disk {
            self.shared.fail(io::Error::other(error.to_string()));
        }
        is_disk
    }

    /// Waits until the log can no longer be brought to the disk.
    pub(super) async fn failed(&self) {
        let mut synced = self.shared.synced.subscribe();
        // The sender is held here: it cannot be gone.
        let _ = synced.wait_for(|synced| synced.failure.is_some()).await;
    }

    /// Fails where the log can no longer be brought to the disk.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.sound()
            .map_err(|error| StoreError::Unavailable(sqlx::Error::Io(error)))
    }

    fn sound(&self) -> io::Result<()> {
        let failure = self.shared.synced.borrow().failure.clone();
        failure.map_or(Ok(()), |error| Err(io::Error::new(error.kind(), error)))
    }

    /// What anybody may have seen by now.
    pub(super) fn seen(&self) -> Durable {
        let wanted = self.shared.state().begun;
        if self.shared.synced.borrow().commits >= wanted {
            return Durable::already();
        }
        let mut synced = self.shared.synced.subscribe();
        Durable::once(async move {
            let reached =
                synced.wait_for(|synced| synced.commits >= wanted || synced.failure.is_some());
            let failure = match reached.await {
                Ok(synced) if synced.commits >= wanted => return Ok(()),
                Ok(synced) => synced.failure.clone(),
                Err(_) => None,
            };
            let failure = failure.unwrap_or_else(|| Arc::new(ErrorKind::BrokenPipe.into()));
            Err(StoreError::UnknownCommit(failure.into()))
        })
    }

    /// Brings what was copied out of the log to the disk, unless the log failed meanwhile. Blocks its thread.
    pub(super) fn sync_file(&self, file: &File) -> io::Result<()> {
        #[cfg(feature = "faults")]
        self.shared.before(Faults::before_file_sync)?;
        self.sound()?;
        file.sync_data()
    }

    /// Has syncs fail or wait on purpose.
    #[cfg(feature = "faults")]
    pub(super) fn trouble(&self, faults: Faults) {
        self.shared.state().faults = Some(faults);
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.shared.state().is_closed = true;
        self.shared.more.notify_one();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Counters, whole between any two steps.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Syncs whenever there is something new, until the log is closed or a sync fails.
    fn sync_what_comes(&self) {
        let mut synced = 0;
        let mut log = None;
        while let Some(written) = self.next(synced) {
            if let Err(error) = self.sync(&mut log) {
                self.fail(error);
            }
            synced = written;
            // After a failure, wherever it was met, no sync means anything.
            let is_sound = self.synced.send_if_modified(|state| {
                let is_sound = state.failure.is_none();
                if is_sound {
                    state.commits = synced;
                }
                is_sound
            });
            if !is_sound {
                return;
            }
        }
    }

    /// Nobody knows any more what is on disk.
    fn fail(&self, error: io::Error) {
        let error = Arc::new(error);
        let is_first = self.synced.send_if_modified(|synced| {
            let is_first = synced.failure.is_none();
            synced.failure.get_or_insert_with(|| Arc::clone(&error));
            is_first
        });
        if is_first {
            tracing::error!(
                %error,
                path = %self.path.display(),
                "the books cannot be brought to the disk: nothing is answered any more; look after \
                 the disk, then start again"
            );
        }
    }

    /// Waits for commits beyond those that are synced; none: the log is closed.
    fn next(&self, synced: u64) -> Option<u64> {
        let idle = |state: &mut State| state.written <= synced && !state.is_closed;
        let waited = self.more.wait_while(self.state(), idle);
        let state = waited.unwrap_or_else(PoisonError::into_inner);
        (state.written > synced).then_some(state.written)
    }

    #[cfg(feature = "faults")]
    fn before(&self, sync: fn(&Faults) -> io::Result<()>) -> io::Result<()> {
        let faults = self.state().faults.clone();
        faults.map_or(Ok(()), |faults| sync(&faults))
    }

    /// Brings what is in the log to the disk. The file stays open: the system tells each of those who
    /// have a file open of an error once, and those who open it later not at all.
    fn sync(&self, log: &mut Option<File>) -> io::Result<()> {
        #[cfg(feature = "faults")]
        self.before(Faults::before_sync)?;
        // With its last connection SQLite takes the log away, once all of it is in the file and on
        // disk, and makes a new one.
        let found = match self.path.metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            found => found?.ino(),
        };
        let kept = log.take();
        let is_it = |file: &File| file.metadata().is_ok_and(|kept| kept.ino() == found);
        let file = match kept.filter(is_it) {
            Some(file) => file,
            None => File::open(&self.path)?,
        };
        log.insert(file).sync_data()
    }
}
