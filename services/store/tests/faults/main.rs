//! A fault at every call that the poster makes to its database, before it and after it, on both
//! engines: nothing is half written, whoever asks again finds the truth, posting goes on.
//!
//! A batch with one command of each kind is posted by a poster that knows nothing yet, so that the
//! calls walked over are all there are: those of the rulebook, of the snapshot, of the effects, the
//! commit; and once more as a replay, for the rollback. For each call and each kind of fault the
//! batch is sent, fails (or not), is sent again, and another one after it. [`child`] does the same
//! with processes that end at the call; [`wire`] with a network that loses, delays and swallows;
//! [`disk`] with a disk that takes long or fails.

mod child;
mod disk;
mod proxy;
mod wire;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use coalition_ledger::command::Command;
use coalition_ledger::decision::Decision;
use coalition_ledger::failure::FailureClass;
use coalition_store::faults::{self, Fault, Faults, Kind, When};
use coalition_store::operations::OperationError;
use coalition_store::poster::{PostError, Poster, PosterSettings};
use coalition_store::testing::{Database, Engine, settings};
use coalition_store::{Store, open};
use futures::future::join_all;
use tokio::time::timeout;

/// Longest that a server may take to notice that a connection has gone.
const GONE_MAX: Duration = Duration::from_secs(10);

/// How often a batch is tried before it has the window alone.
const SHARED_ATTEMPTS: u32 = 4;
/// How long it holds the window then, while a rival would be first again.
const RIVAL_WAITS: Duration = Duration::from_millis(100);

/// A database with faults, and how many batches it has seen.
struct Walk {
    database: Database,
    /// None while another process has the file.
    store: Option<Arc<dyn Store>>,
    faults: Faults,
    batch: u32,
    batches: Batches,
}

/// What the batches are like, and who posts them.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Batches {
    /// One command of each kind, posted by a poster that knows nothing yet: as many calls as there can be.
    OneOfEach,
    /// Commands that PostgreSQL writes in one go, posted by a poster that has posted before: as few.
    Plain,
}

/// How the commands of a batch come.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Callers {
    /// From one caller: they fail together.
    One,
    /// From a caller each: what fails as a batch is posted one by one.
    Each,
}

impl Walk {
    async fn begin(engine: Engine) -> Option<Self> {
        let database = Database::new(engine).await?;
        let mut walk = Self {
            database,
            store: None,
            faults: Faults::default(),
            batch: 0,
            batches: Batches::OneOfEach,
        };
        walk.open().await;
        world::furnish(walk.store()).await;
        // The first batch is not like the others: nobody is in debt before it.
        walk.calls_of_posting().await;
        Some(walk)
    }

    async fn open(&mut self) {
        let store = faults::open(&self.database.url, &settings(), &self.faults).await;
        self.store = Some(store.expect("nobody else has it"));
        self.faults.disarm();
    }

    async fn close(&mut self) {
        if let Some(store) = self.store.take() {
            store.close().await;
        }
    }

    fn store(&self) -> &Arc<dyn Store> {
        self.store.as_ref().expect("it is open")
    }

    /// The next batch.
    fn next(&mut self) -> Vec<Command> {
        self.batch += 1;
        match self.batches {
            Batches::OneOfEach => world::commands(self.batch),
            Batches::Plain => world::plain_commands(self.batch),
        }
    }

    /// A poster.
    async fn poster(&mut self) -> Poster {
        let poster = world::poster(self.store());
        if self.batches == Batches::Plain {
            let first = self.next();
            posted(&poster, &first).await;
        }
        poster
    }

    /// The calls of a batch.
    async fn calls_of_posting(&mut self) -> Vec<String> {
        let poster = self.poster().await;
        let commands = self.next();
        self.faults.disarm();
        posted(&poster, &commands).await;
        let calls = self.faults.calls();
        poster.shut_down().await;
        assert!(calls.last().is_some_and(|last| is_commit(last)));
        calls
    }

    /// The calls of a batch that was posted before.
    async fn calls_of_a_replay(&mut self) -> Vec<String> {
        let poster = self.poster().await;
        let commands = self.next();
        posted(&poster, &commands).await;
        self.faults.disarm();
        posted(&poster, &commands).await;
        let calls = self.faults.calls();
        poster.shut_down().await;
        calls
    }

    /// Sends a batch whose call with this number fails; checks what is there then, and after it was
    /// sent again.
    async fn fault_while_posting(
        &mut self,
        (call, name): (usize, &str),
        fault: Fault,
        callers: Callers,
    ) {
        // A crowd's commands are one batch.
        self.faults.post_in_turns(callers == Callers::Each);
        let poster = self.poster().await;
        let commands = self.next();
        let before = world::census(&self.database).await;
        self.faults.arm(call, fault);
        let first = send(&poster, &commands, callers).await;
        let called = self.faults.calls();
        let at = format!("{fault:?} at call {call} ({name}), {callers:?}");
        assert!(!self.faults.is_armed(), "{at}: never came to it");
        assert_eq!(called[call], name, "the calls are the same each time");
        self.faults.disarm();
        let between = world::census(&self.database).await;

        // Whoever asks again finds the truth.
        let again = posted(&poster, &commands).await;
        let after = world::census(&self.database).await;
        assert!(again.iter().all(world::is_done), "{at}: {again:?}");
        assert_ne!(before, after, "{at}");
        let (is_there, what) = match &first {
            Ok(decisions) => {
                for (first, again) in decisions.iter().zip(&again) {
                    assert_eq!(world::answer(first), world::answer(again), "{at}");
                }
                (true, "answered")
            }
            Err(PostError::Unavailable(_)) => (false, "not done"),
            Err(PostError::Failed(_)) => (false, "failed"),
            Err(PostError::Unknown(_)) => (fault.when == When::After, "unknown"),
            Err(other) => panic!("{at}: {other}"),
        };
        assert_eq!(
            between,
            *if is_there { &after } else { &before },
            "{at}: {what}"
        );
        for (number, decision) in again.iter().enumerate() {
            assert_eq!(
                world::is_replay(decision),
                is_there,
                "{at}: command {number}"
            );
        }
        expected(name, fault, callers, &first, &at);

        // And posting goes on.
        let next = self.next();
        let decisions = posted(&poster, &next).await;
        assert!(decisions.iter().all(world::is_done), "{at}: {decisions:?}");
        assert!(
            !decisions.iter().any(world::is_replay),
            "{at}: {decisions:?}"
        );
        poster.shut_down().await;
        assert_eq!(world::halves(&self.database).await, [], "{at}");
        self.assert_nothing_open(&at).await;
    }

    /// A replay writes nothing: whatever happens to it, the answers are those of the first time.
    async fn fault_while_replaying(&mut self, call: usize, fault: Fault) {
        let poster = self.poster().await;
        let commands = self.next();
        let first = posted(&poster, &commands).await;
        let before = world::census(&self.database).await;
        self.faults.arm(call, fault);
        let second = send(&poster, &commands, Callers::One).await;
        let at = format!(
            "{fault:?} at call {call} ({:?}) of a replay",
            self.faults.calls().get(call)
        );
        assert!(!self.faults.is_armed(), "{at}: never came to it");
        self.faults.disarm();
        let third = posted(&poster, &commands).await;
        for (first, third) in first.iter().zip(&third) {
            assert_eq!(world::answer(first), world::answer(third), "{at}");
        }
        if let Err(error) = second {
            let told = matches!(error, PostError::Unavailable(_) | PostError::Failed(_));
            assert!(told, "{at}: {error}");
        }
        assert_eq!(before, world::census(&self.database).await, "{at}");
        poster.shut_down().await;
        self.assert_nothing_open(&at).await;
    }

    /// Sends two batches at once, with a fault at a call or without; the calls that were made, which may be fewer.
    async fn pair(&mut self, fault: Option<(usize, Fault)>) -> Vec<String> {
        let mut first = self.next();
        let second = first.split_off(first.len().div_ceil(2));
        let settings = PosterSettings {
            batch_commands: first.len(),
            ..PosterSettings::default()
        };
        let pair = [first, second];
        // Both are there before the first is taken.
        self.faults.post_in_turns(true);
        let poster = world::poster_with(self.store(), settings);
        match fault {
            Some((call, fault)) => self.faults.arm(call, fault),
            None => self.faults.disarm(),
        }
        let sent = pair.iter().map(|batch| poster.post_all(batch.clone()));
        let told = join_all(sent).await;
        let calls = self.faults.calls();
        let at = format!("{fault:?} of {calls:#?}");
        let struck = fault.is_some() && !self.faults.is_armed();
        self.faults.disarm();
        let troubled = told.iter().filter(|told| told.is_err()).count();
        assert!(troubled <= usize::from(struck), "{at}: {told:?}");
        for (batch, told) in pair.iter().zip(&told) {
            let again = posted(&poster, batch).await;
            assert!(again.iter().all(world::is_done), "{at}: {again:?}");
            let was_there = match told {
                Ok(first) => {
                    for (first, again) in first.iter().zip(&again) {
                        assert_eq!(world::answer(first), world::answer(again), "{at}");
                    }
                    true
                }
                Err(PostError::Unknown(_)) => {
                    fault.is_some_and(|(_, fault)| fault.when == When::After)
                }
                Err(PostError::Unavailable(_) | PostError::Failed(_)) => false,
                Err(other) => panic!("{at}: {other}"),
            };
            for again in &again {
                assert_eq!(world::is_replay(again), was_there, "{at}: {told:?}");
            }
        }
        poster.shut_down().await;
        assert_eq!(world::halves(&self.database).await, [], "{at}");
        self.assert_nothing_open(&at).await;
        calls
    }

    /// No connection of ours is inside a transaction while nothing is at work.
    async fn assert_nothing_open(&self, at: &str) {
        if self.database.engine == Engine::Postgres {
            assert_nothing_open(&self.database, at).await;
        }
    }

    async fn end(mut self) {
        world::assert_books_balance(self.store().as_ref()).await;
        self.close().await;
        self.database.remove().await;
    }
}

/// No connection to this database is inside a transaction, once what was dropped has been closed.
async fn assert_nothing_open(database: &Database, at: &str) {
    let open = "select count(*) from pg_stat_activity where datname = current_database() \
                and state like 'idle in transaction%'";
    let closed = tokio::time::timeout(GONE_MAX, async {
        while database.number(open).await != 0 {
            tokio::task::yield_now().await;
        }
    });
    assert!(closed.await.is_ok(), "{at}: a transaction stays open");
}

/// Whether a call is a commit, with what it writes or without.
fn is_commit(call: &str) -> bool {
    call == "commit" || call.ends_with(" and commit")
}

/// What the caller must be told.
fn expected(
    name: &str,
    fault: Fault,
    callers: Callers,
    told: &Result<Vec<Decision>, PostError>,
    at: &str,
) {
    let commits = is_commit(name);
    let fits = match (fault.kind, callers) {
        // Not with the connection that is gone; where it was lost on the way to a commit, or on
        // the way back, nobody can know.
        (Kind::Lost, _) if commits && fault.when == When::After => {
            matches!(told, Err(PostError::Unknown(_)))
        }
        (Kind::Lost, _) if commits => {
            matches!(told, Err(PostError::Unknown(_) | PostError::Unavailable(_)))
        }
        (Kind::Lost, _) => matches!(told, Err(PostError::Unavailable(_))),
        (Kind::Panic, _) if commits => matches!(told, Err(PostError::Unknown(_))),
        // A failure without a remedy is one call's own, once it is alone; what is run again nobody
        // notices.
        (Kind::Refused | Kind::Panic, Callers::One) => matches!(told, Err(PostError::Failed(_))),
        (Kind::Conflict, _) | (Kind::Refused | Kind::Panic, Callers::Each) => told.is_ok(),
        (Kind::Abort, _) => false,
    };
    let told = told.as_ref().map(Vec::len);
    assert!(fits, "{at}: the caller is told {told:?}");
}

/// Sends a batch, once. Callers of their own are all there before the poster looks.
async fn send(
    poster: &Poster,
    commands: &[Command],
    callers: Callers,
) -> Result<Vec<Decision>, PostError> {
    match callers {
        Callers::One => poster.post_all(commands.to_vec()).await,
        Callers::Each => {
            let calls = commands.iter().map(|command| poster.post(command.clone()));
            join_all(calls).await.into_iter().collect()
        }
    }
}

/// Posts a batch that nothing happens to.
async fn posted(poster: &Poster, commands: &[Command]) -> Vec<Decision> {
    let decisions = send(poster, commands, Callers::One).await;
    decisions.expect("nothing is in the way")
}

/// Walks over all calls with one fault.
async fn walk(engine: Engine, fault: Fault, callers: Callers) {
    let Some(mut walk) = Walk::begin(engine).await else {
        return;
    };
    let mut faults = walk_batches(&mut walk, fault, callers).await;
    walk.batches = Batches::Plain;
    faults += walk_batches(&mut walk, fault, callers).await;
    eprintln!(
        "{engine}, {fault:?}, {callers:?}: {faults} faults, {} batches",
        walk.batch
    );
    walk.end().await;
}

/// The same of such batches: how many faults there were.
async fn walk_batches(walk: &mut Walk, fault: Fault, callers: Callers) -> usize {
    let calls = walk.calls_of_posting().await;
    let fits = match (walk.database.engine, walk.batches) {
        // A call for each statement.
        (Engine::Sqlite, Batches::OneOfEach) => calls.len() >= 34,
        // In as few goes as no table comes twice in.
        (Engine::Postgres, Batches::OneOfEach) => calls.len() >= 21,
        (Engine::Sqlite, Batches::Plain) => calls.len() == 13,
        // The same but for what begins and what commits.
        (Engine::Postgres, Batches::Plain) => calls.len() == 4,
    };
    assert!(fits, "{:?}: {calls:#?}", walk.batches);
    let mut faults = 0;
    for (call, name) in calls.iter().enumerate() {
        // A database that stores what it says it refused is not one to write for.
        let absurd = is_commit(name)
            && fault.when == When::After
            && matches!(fault.kind, Kind::Refused | Kind::Conflict);
        if !absurd {
            walk.fault_while_posting((call, name), fault, callers).await;
            faults += 1;
        }
    }
    if callers == Callers::One {
        let calls = walk.calls_of_a_replay().await;
        assert_eq!(
            calls.last().map(String::as_str),
            Some("rollback"),
            "{calls:#?}"
        );
        for call in 0..calls.len() {
            walk.fault_while_replaying(call, fault).await;
            faults += 1;
        }
    }
    faults
}

/// Two batches, of which the second waits while the first is at work, with a fault at each call of either:
/// what becomes of one says nothing of the other.
async fn walk_a_pair(engine: Engine) {
    let Some(mut walk) = Walk::begin(engine).await else {
        return;
    };
    let calls = walk.pair(None).await;
    let count = |name: &str| calls.iter().filter(|call| *call == name).count();
    assert_eq!((count("begin"), count("commit")), (2, 2), "{calls:#?}");
    for (when, kind) in [
        (When::Before, Kind::Refused),
        (When::Before, Kind::Conflict),
        (When::Before, Kind::Lost),
        (When::After, Kind::Lost),
        (When::Before, Kind::Panic),
        (When::After, Kind::Panic),
    ] {
        let mut call = 0;
        while walk.pair(Some((call, Fault { when, kind }))).await.len() > call {
            call += 1;
        }
        assert!(call > calls.len() / 2, "{call} of {calls:#?}");
    }
    walk.end().await;
}

#[tokio::test]
async fn of_two_batches_in_a_row_each_fails_alone_on_sqlite() {
    walk_a_pair(Engine::Sqlite).await;
}

#[tokio::test]
async fn of_two_batches_in_a_row_each_fails_alone_on_postgres() {
    walk_a_pair(Engine::Postgres).await;
}

/// What an operator does may meet a bug too: that call fails, at whatever call of the database, and
/// says so; the books are none the worse for it, and nothing else stops.
async fn an_operation_that_panics(engine: Engine) {
    let Some(mut walk) = Walk::begin(engine).await else {
        return;
    };
    let poster = world::poster(walk.store());
    let operations = world::operations(walk.store(), &poster);
    walk.faults.disarm();
    operations.cut(world::cut(0), None).await.expect("cuts");
    let calls = walk.faults.calls();
    assert_eq!(
        calls.last().map(String::as_str),
        Some("commit"),
        "{calls:#?}"
    );
    for (call, name) in calls.iter().enumerate() {
        let number = u32::try_from(call + 1).expect("a few calls");
        let fault = Fault {
            when: When::After,
            kind: Kind::Panic,
        };
        walk.faults.arm(call, fault);
        let told = operations.cut(world::cut(number), None).await;
        let class = told.map_err(|error| match error {
            OperationError::Store(error) => error.class(),
            other => panic!("{call} {name}: {other}"),
        });
        let expected = if name == "commit" {
            FailureClass::Unknown
        } else {
            FailureClass::Internal
        };
        assert_eq!(class.err(), Some(expected), "{call} {name}");
        let again = operations.cut(world::cut(number), None).await;
        let again = again.expect("nothing is in the way");
        assert_eq!(again.replayed, name == "commit", "{call} {name}");
        assert!(!poster.has_stopped(), "{call} {name}");
        let commands = walk.next();
        posted(&poster, &commands).await;
        walk.assert_nothing_open(name).await;
    }
    poster.shut_down().await;
    walk.end().await;
}

#[tokio::test]
async fn an_operation_that_panics_fails_alone_on_sqlite() {
    an_operation_that_panics(Engine::Sqlite).await;
}

#[tokio::test]
async fn an_operation_that_panics_fails_alone_on_postgres() {
    an_operation_that_panics(Engine::Postgres).await;
}

/// A process that was always first would keep others from posting for ever: whoever has lost a few times
/// has the window alone. (On SQLite there is one process, and one unit at a time: nobody can be first.)
#[tokio::test]
async fn whoever_loses_again_and_again_is_let_through_on_postgres() {
    let Some(mut walk) = Walk::begin(Engine::Postgres).await else {
        return;
    };
    let elsewhere = open(&walk.database.url, &settings()).await;
    let elsewhere = elsewhere.expect("a server takes many");
    let rival = world::poster(&elsewhere);
    let rivals = Arc::new(AtomicU32::new(0));
    walk.faults.before_writes({
        let (rival, rivals) = (rival.clone(), Arc::clone(&rivals));
        move || {
            let number = rivals.fetch_add(1, Ordering::SeqCst);
            let (rival, command) = (rival.clone(), world::rival(number));
            Box::pin(async move {
                let posted = tokio::spawn(async move { rival.post(command).await });
                if number < SHARED_ATTEMPTS {
                    let posted = posted.await.expect("it does not panic");
                    posted.expect("nobody is in its way");
                } else {
                    // It waits for the window, and is posted all the same.
                    assert!(timeout(RIVAL_WAITS, posted).await.is_err(), "had it, too");
                }
            })
        }
    });
    // An earn alone, which is written in one go.
    let earn = walk.next().swap_remove(1);
    let poster = world::poster(walk.store());
    walk.faults.disarm();
    let decided = poster.post(earn).await.expect("is let through");
    assert!(world::is_done(&decided), "{decided:?}");
    let calls = walk.faults.calls();
    // The first reads the rulebook, with the window held.
    let begun = calls.iter().filter(|call| *call == "begin").count();
    let tries = SHARED_ATTEMPTS + 1;
    assert_eq!(begun, tries as usize, "{calls:#?}");
    poster.shut_down().await;

    // What came first came first, and what waited came after.
    assert_eq!(rivals.load(Ordering::SeqCst), tries);
    for number in 0..tries {
        let again = rival.post(world::rival(number)).await.expect("answers");
        assert!(
            world::is_done(&again) && world::is_replay(&again),
            "{again:?}"
        );
    }
    rival.shut_down().await;
    elsewhere.close().await;
    walk.end().await;
}

/// Whoever is refused is so by the rulebook that holds, though nothing is written by which that could be found.
#[tokio::test]
async fn a_refusal_is_by_the_rulebook_that_holds_on_postgres() {
    let Some(mut walk) = Walk::begin(Engine::Postgres).await else {
        return;
    };
    walk.batches = Batches::Plain;
    let poster = walk.poster().await;
    let before = poster.post(world::early(1)).await.expect("answers");
    let elsewhere = open(&walk.database.url, &settings()).await;
    let elsewhere = elsewhere.expect("a server takes many");
    world::latecomer(&elsewhere).await;
    let after = poster.post(world::early(2)).await.expect("answers");
    // Neither is posted: nobody has agreed to anything. But by then the partner is known.
    assert!(matches!(before, Decision::Refused(_)), "{before:?}");
    assert_ne!(format!("{before:?}"), format!("{after:?}"));
    elsewhere.close().await;
    poster.shut_down().await;
    walk.end().await;
}

macro_rules! walks {
    ($($name:ident: $when:ident $kind:ident $callers:ident;)+) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $name() {
                let fault = super::Fault { when: super::When::$when, kind: super::Kind::$kind };
                super::walk(super::Engine::Sqlite, fault, super::Callers::$callers).await;
            })+
        }

        mod on_postgres {
            $(#[tokio::test]
            async fn $name() {
                let fault = super::Fault { when: super::When::$when, kind: super::Kind::$kind };
                super::walk(super::Engine::Postgres, fault, super::Callers::$callers).await;
            })+
        }
    };
}

walks! {
    refused_before_each_call: Before Refused One;
    refused_after_each_call: After Refused One;
    a_conflict_before_each_call: Before Conflict One;
    a_conflict_after_each_call: After Conflict One;
    lost_before_each_call: Before Lost One;
    lost_after_each_call: After Lost One;
    a_panic_before_each_call: Before Panic One;
    a_panic_after_each_call: After Panic One;
    of_many_callers_refused_after_each_call: After Refused Each;
    of_many_callers_lost_after_each_call: After Lost Each;
    of_many_callers_a_panic_before_each_call: Before Panic Each;
}
