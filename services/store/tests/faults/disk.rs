//! A disk that takes long, one that fails, and a power cut: SQLite's log is brought to the disk beside
//! the batches, and nobody is told before it is there.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use coalition_ledger::command::Command;
use coalition_ledger::decision::Decision;
use coalition_ledger::failure::FailureClass;
use coalition_ledger::ids::WindowId;
use coalition_store::faults::Syncs;
use coalition_store::model::PostingFilter;
use coalition_store::operations::OperationError;
use coalition_store::poster::{PostError, Poster, PosterSettings, QUEUE_CALLS, SLOW_BATCH};
use coalition_store::testing::{Engine, settings};
use coalition_store::{Reader, Store, StoreError, WindowLock, open};
use futures::FutureExt as _;
use futures::future::join_all;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::{Callers, Walk, posted, send, world};

/// How long nothing must happen.
const WHILE: Duration = Duration::from_millis(100);
/// How often something is looked for.
const LOOK: Duration = Duration::from_millis(10);
/// How long something may take that must happen.
const SOON: Duration = Duration::from_secs(10);

/// Each posting is on disk before the next begins.
const ONE_BY_ONE: PosterSettings = PosterSettings {
    batch_commands: 1,
    slow_batch: SLOW_BATCH,
    queue_calls: QUEUE_CALLS,
};

type Told = JoinHandle<Result<Vec<Decision>, PostError>>;

fn sent(poster: &Poster, commands: &[Command]) -> Told {
    let (poster, commands) = (poster.clone(), commands.to_vec());
    tokio::spawn(async move { poster.post_all(commands).await })
}

impl Walk {
    async fn on_sqlite() -> Self {
        let walk = Self::begin(Engine::Sqlite).await;
        walk.expect("it needs no server")
    }

    /// Waits until so many batches are committed since the last disarming, on disk or not.
    async fn committed(&self, batches: usize) {
        let commits = || {
            let calls = self.faults.calls();
            calls.iter().filter(|call| *call == "commit").count()
        };
        let committed = tokio::time::timeout(SOON, async {
            while commits() < batches {
                tokio::task::yield_now().await;
            }
        });
        committed.await.expect("batches do not wait for the disk");
    }

    fn log(&self) -> PathBuf {
        let mut name = self.database.file().expect("a file").into_os_string();
        name.push("-wal");
        name.into()
    }
}

/// What a disk holds: the file, and the log as far as it was synced.
struct Image {
    synced: usize,
}

impl Image {
    fn now(log: &Path) -> Self {
        let synced = std::fs::metadata(log).expect("there is a log").len();
        Self {
            synced: usize::try_from(synced).expect("it fits"),
        }
    }

    /// The books that are found after a power cut now, where the disk held this.
    async fn after_a_power_cut(&self, walk: &Walk) -> (tempfile::TempDir, Arc<dyn Store>) {
        let directory = tempfile::tempdir().expect("a directory");
        let file = walk.database.file().expect("a file");
        let copy = directory.path().join("books.db");
        std::fs::copy(file, &copy).expect("copies");
        let log = std::fs::read(walk.log()).expect("reads");
        assert!(log.len() > self.synced, "something was added to the log");
        std::fs::write(directory.path().join("books.db-wal"), &log[..self.synced]).expect("writes");
        let url = format!("sqlite:{}", copy.display());
        let store = open(&url, &settings()).await.expect("opens");
        (directory, store)
    }
}

async fn transactions(store: &Arc<dyn Store>) -> i64 {
    let mut scan = store.scan().await.expect("a picture");
    scan.transaction_count().await.expect("counts")
}

type Question<'a> = (
    &'static str,
    Pin<Box<dyn Future<Output = Result<(), StoreError>> + 'a>>,
);

/// Every question that there is.
fn questions(reader: &dyn Reader) -> Vec<Question<'_>> {
    macro_rules! questions {
        ($($name:ident($($argument:expr),*)),+ $(,)?) => {
            vec![$((
                stringify!($name),
                reader.$name($($argument),*).map(|answer| answer.map(drop)).boxed_local(),
            )),+]
        };
    }
    let id = Uuid::from_u128(0xcafe);
    let member = coalition_ledger::ids::MemberId::from_uuid(Uuid::from_u128(0x6e57));
    let key = coalition_ledger::command::RequestKey { id, scope: id };
    questions![
        due_members(coalition_store::testing::START, 1),
        network(),
        member_by_identifier(&[0; 32]),
        member(member),
        transaction(coalition_ledger::ids::TransactionId::from_uuid(id)),
        request(key),
        activity(member, None, None, 1),
        open_window(),
        window(coalition_ledger::ids::WindowId::from_uuid(id)),
        windows(None, 1),
        totals(coalition_ledger::ids::WindowId::from_uuid(id)),
        posting_counts(&[]),
        postings(PostingFilter::default(), None, 1),
        positions(None),
        rulebook(),
        partner(coalition_ledger::ids::PartnerId::from_uuid(id)),
        partner_by_code("cafe"),
        partners(None, 1),
        agreement(coalition_ledger::ids::AgreementId::from_uuid(id)),
        agreements(None, None, 1),
        settlement(coalition_ledger::ids::SettlementId::from_uuid(id)),
        settlements(None, 1),
        trial_sums(),
    ]
}

#[tokio::test]
async fn nobody_is_told_what_is_not_on_disk() {
    let mut walk = Walk::on_sqlite().await;
    let poster = world::poster(walk.store());
    let earlier = walk.next();
    posted(&poster, &earlier).await;
    let on_disk = Image::now(&walk.log());
    let before = transactions(walk.store()).await;

    walk.faults.disarm();
    walk.faults.syncs(Syncs::Held);
    let commands = [walk.next(), walk.next()];
    let first = sent(&poster, &commands[0]);
    walk.committed(1).await;
    // The next batch does not wait for the disk.
    let second = sent(&poster, &commands[1]);
    walk.committed(2).await;
    let replay = sent(&poster, &earlier);
    let store = Arc::clone(walk.store());
    let picture = tokio::spawn(async move { store.scan().await.map(drop) });
    let asked = questions(walk.store().reader());
    // More than there are connections: none is kept while it waits.
    let asked = asked.into_iter().map(|(name, question)| async move {
        let early = tokio::time::timeout(WHILE, question).await;
        assert!(early.is_err(), "{name}: {early:?}");
    });
    join_all(asked).await;
    for told in [&first, &second, &replay] {
        assert!(!told.is_finished(), "somebody was told");
    }
    assert!(!picture.is_finished(), "verify would tell somebody");

    // Were the power cut now, nobody was told of what is lost, and the books are whole.
    let (directory, found) = on_disk.after_a_power_cut(&walk).await;
    assert_eq!(transactions(&found).await, before);
    world::assert_books_balance(found.as_ref()).await;
    found.close().await;
    drop(directory);

    walk.faults.syncs(Syncs::Done);
    for told in [first, second, replay] {
        let told = tokio::time::timeout(SOON, told).await.expect("is told");
        let decisions = told.expect("no panic").expect("is posted");
        assert!(decisions.iter().all(world::is_done), "{decisions:?}");
    }
    picture.await.expect("no panic").expect("is taken");
    for (name, question) in questions(walk.store().reader()) {
        let answer = tokio::time::timeout(SOON, question).await;
        assert!(answer.is_ok_and(|answer| answer.is_ok()), "{name}");
    }
    poster.shut_down().await;
    walk.end().await;
}

#[tokio::test]
async fn one_by_one_a_posting_is_on_disk_before_the_next_begins() {
    let mut walk = Walk::on_sqlite().await;
    let poster = world::poster_with(walk.store(), ONE_BY_ONE);
    walk.faults.disarm();
    walk.faults.syncs(Syncs::Held);
    let first = sent(&poster, &walk.next());
    walk.committed(1).await;
    let second = sent(&poster, &walk.next());
    let early = tokio::time::timeout(WHILE, walk.committed(2)).await;
    assert!(early.is_err(), "the second did not wait for the disk");
    walk.faults.syncs(Syncs::Done);
    for told in [first, second] {
        let decisions = told.await.expect("no panic").expect("is posted");
        assert!(decisions.iter().all(world::is_done), "{decisions:?}");
    }
    poster.shut_down().await;
    walk.end().await;
}

#[test]
fn a_runtime_is_dropped_while_posting_waits_for_the_disk() {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let (walk, _caller) = runtime.block_on(async {
            let mut walk = Walk::on_sqlite().await;
            let poster = world::poster_with(walk.store(), ONE_BY_ONE);
            walk.faults.disarm();
            walk.faults.syncs(Syncs::Held);
            let caller = sent(&poster, &walk.next());
            walk.committed(1).await;
            (walk, caller)
        });
        drop(runtime);
        tell.send(()).expect("somebody waits");
        walk.faults.syncs(Syncs::Done);
    });
    told.recv_timeout(SOON).expect("nothing waits for the disk");
}

#[tokio::test]
async fn after_a_disk_that_failed_nothing_is_answered_until_the_file_is_opened_again() {
    let mut walk = Walk::on_sqlite().await;
    let poster = world::poster(walk.store());
    walk.faults.syncs(Syncs::Failed);
    let commands = walk.next();
    let told = send(&poster, &commands, Callers::One).await;
    assert!(matches!(told, Err(PostError::Unknown(_))), "{told:?}");
    // Which turns the health of the process; the books are not damaged.
    let failed = tokio::time::timeout(SOON, walk.store().failed()).await;
    assert!(failed.is_ok() && !poster.has_stopped());

    // The system may say that all is well from now on, and the log lack a page for ever.
    walk.faults.syncs(Syncs::Done);
    let told = send(&poster, &walk.next(), Callers::One).await;
    assert!(matches!(told, Err(PostError::Unavailable(_))), "{told:?}");
    let asked = walk.store().reader().network().await;
    assert!(
        matches!(asked, Err(StoreError::Unavailable(_))),
        "{asked:?}"
    );
    let begun = walk.store().begin(WindowLock::Exclusive).await.map(drop);
    assert!(
        matches!(begun, Err(StoreError::Unavailable(_))),
        "{begun:?}"
    );
    poster.shut_down().await;
    walk.close().await;

    // All of the log is brought into the file before anything else.
    walk.open().await;
    assert_eq!(std::fs::metadata(walk.log()).map_or(0, |log| log.len()), 0);
    let poster = world::poster(walk.store());
    let again = posted(&poster, &commands).await;
    assert!(
        again.iter().all(world::is_replay),
        "it was stored: {again:?}"
    );
    poster.shut_down().await;
    walk.end().await;
}

#[tokio::test]
async fn after_a_file_that_failed_while_the_log_was_copied_neither_is_relied_on() {
    let mut walk = Walk::on_sqlite().await;
    let poster = world::poster(walk.store());
    let commands = walk.next();
    posted(&poster, &commands).await;
    walk.faults.file_syncs(Syncs::Failed);
    walk.faults.copy();
    let failed = tokio::time::timeout(SOON, walk.store().failed()).await;
    assert!(failed.is_ok(), "the log would begin anew");
    walk.faults.file_syncs(Syncs::Done);
    let told = send(&poster, &walk.next(), Callers::One).await;
    assert!(matches!(told, Err(PostError::Unavailable(_))), "{told:?}");
    assert!(!poster.has_stopped());
    poster.shut_down().await;
    walk.close().await;

    walk.open().await;
    let poster = world::poster(walk.store());
    let again = posted(&poster, &commands).await;
    assert!(again.iter().all(world::is_replay), "{again:?}");
    poster.shut_down().await;
    walk.end().await;
}

#[tokio::test]
async fn a_log_that_failed_is_not_copied_into_the_file() {
    let mut walk = Walk::on_sqlite().await;
    let file = walk.database.file().expect("a file");
    let poster = world::poster(walk.store());
    walk.faults.syncs(Syncs::Failed);
    let told = send(&poster, &walk.next(), Callers::One).await;
    assert!(matches!(told, Err(PostError::Unknown(_))), "{told:?}");
    let found = || std::fs::read(&file).expect("reads");
    let before = found();
    walk.faults.copy();
    let mut looks = tokio::time::interval(LOOK);
    let copied = tokio::time::timeout(WHILE, async {
        while found() == before {
            looks.tick().await;
        }
    });
    assert!(copied.await.is_err(), "it was copied");
    poster.shut_down().await;
    walk.close().await;
    walk.faults.syncs(Syncs::Done);
    walk.open().await;
    walk.end().await;
}

#[tokio::test]
async fn whoever_was_accepted_is_told_before_the_poster_has_shut_down() {
    let mut walk = Walk::on_sqlite().await;
    let poster = world::poster(walk.store());
    walk.faults.disarm();
    walk.faults.syncs(Syncs::Held);
    let told = sent(&poster, &walk.next());
    walk.committed(1).await;
    let mut shut_down = pin!(poster.shut_down());
    let early = tokio::time::timeout(WHILE, &mut shut_down).await;
    assert!(early.is_err() && !told.is_finished());
    walk.faults.syncs(Syncs::Done);
    shut_down.await;
    let told = told.now_or_never().expect("told before").expect("no panic");
    assert!(told.is_ok(), "{told:?}");
    walk.end().await;
}

#[tokio::test]
async fn an_operator_is_told_no_sooner_and_hears_of_a_disk_that_failed() {
    let mut walk = Walk::on_sqlite().await;
    let poster = world::poster(walk.store());
    let operations = world::operations(walk.store(), &poster);
    walk.faults.syncs(Syncs::Held);
    let mut cut = pin!(operations.cut(world::cut(1), None));
    let early = tokio::time::timeout(WHILE, &mut cut).await;
    assert!(early.is_err(), "{early:?}");
    // Nor of what would speak against it: that rests on the first.
    let objected = operations.cut(world::cut(2), Some(WindowId::from_uuid(Uuid::from_u128(1))));
    let mut objected = pin!(objected);
    let early = tokio::time::timeout(WHILE, &mut objected).await;
    assert!(early.is_err(), "{early:?}");

    walk.faults.syncs(Syncs::Failed);
    let cut = cut.await;
    let class = |told| match told {
        Err(OperationError::Store(error)) => Some(error.class()),
        _ => None,
    };
    assert_eq!(class(cut), Some(FailureClass::Unknown));
    assert_eq!(class(objected.await), Some(FailureClass::TryAgain));
    let failed = tokio::time::timeout(SOON, walk.store().failed()).await;
    assert!(failed.is_ok(), "nobody would start the process again");
    poster.shut_down().await;
    walk.close().await;
    walk.faults.syncs(Syncs::Done);
    walk.open().await;
    walk.end().await;
}

#[tokio::test]
async fn a_file_is_the_same_by_whatever_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let elsewhere = tempfile::tempdir().expect("a directory");
    let (file, link) = (
        directory.path().join("books.db"),
        elsewhere.path().join("link.db"),
    );
    std::fs::write(&file, []).expect("writes");
    std::os::unix::fs::symlink(&file, &link).expect("links");
    let by = |path: &Path| format!("sqlite:{}", path.display());
    let store = open(&by(&link), &settings()).await.expect("opens");
    // SQLite keeps the log beside the file; so do we keep the lock, and look for the log.
    assert!(directory.path().join("books.db.lock").exists());
    let second = open(&by(&file), &settings()).await;
    assert!(matches!(second, Err(StoreError::Unsuitable(_))));
    store.close().await;
    // A name that only SQLite takes apart.
    let odd = open(&format!("sqlite:file:{}", file.display()), &settings()).await;
    assert!(matches!(odd, Err(StoreError::Unsuitable(_))));
}
