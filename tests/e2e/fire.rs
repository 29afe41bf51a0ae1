//! Conservation under fire: many clients, every kind of command, a clock that moves and windows that
//! are cut under them; afterwards every figure is accounted for.
//!
//! Three settings: one process on SQLite, one on PostgreSQL, and two gateways and two of each service
//! over one PostgreSQL, all of them processes of the real binary. What is checked:
//!
//! * **While it runs** ([`watch`]): Σ positions = 0 per currency, at every sample; no limit overdrawn;
//!   the trial balance holds.
//! * **The books** ([`books`]): every posting is in exactly one window, as many as the window counts;
//!   every answer names the window that its posting is in; Σ over windows = Σ of postings; every
//!   balance is what a replay of the postings gives; `verify` finds nothing.
//! * **The answers** ([`agreement`]): the plain model of the ledger's own tests is given the commands in
//!   the order in which the network decided them ([`order`]) and must come to the same outcome:
//!   points, lots and their issuers, debt, what remains, the balance block, the reason of a decline.
//!   Refusals, which leave no record and so have no place in the order, must be true of some moment
//!   between their sending and their answer.
//! * **For ever**: requests are sent once more, and answered the same, marked replayed.
//! * **The cut** ([`waits`]): no writer waits for it longer than 250 ms. Measured where the wait is: the
//!   store tells its log how long each unit of work waited for the window, and when whoever had it
//!   alone gave it back; a client's clock on a busy machine would measure the machine. In a short run,
//!   which shares the machine with other tests, waits that meet no cut say what the machine adds.
//!
//! With one poster the order is that of the transactions' ids. With several processes it is what the
//! network itself keeps: each member's chain of transactions, and the clock's instants in between. Only
//! where two processes move one party's headroom at once is the order not to be known from outside;
//! there the model is told whether the limit was exceeded, and that is held against the least and the
//! most headroom that any order of the calls under way at the time could have left ([`rooms`]): a
//! decline is wrong if even the least would have sufficed, a posting if even the most would not.
//!
//! `COALITION_TEST_FULL=1` runs two minutes each instead of seconds; `COALITION_TEST_SEED` repeats a
//! run's choices (not its timing). The seed is told with the figures.

mod agreement;
mod books;
mod calls;
mod clients;
mod crowded;
mod leaving;
mod memory;
mod once;
mod order;
mod rooms;
mod setting;
mod waits;
mod watch;
mod world;

/// The plain model, where the ledger's own tests have it.
#[expect(
    dead_code,
    reason = "the ledger's tests ask more of the model than these"
)]
#[path = "../../services/ledger/tests/model.rs"]
mod model;

use std::time::Duration;

use coalition_store::testing::Engine;
use coalition_tests::engine::{bounded, not_run};

use self::setting::Setting;
use self::world::World;

/// How long the clients fire, unless asked for more.
const SHORT: Duration = Duration::from_secs(10);
/// How long with `COALITION_TEST_FULL=1`.
const FULL: Duration = Duration::from_mins(2);

/// Whether every test has its full length.
pub(crate) fn full() -> bool {
    std::env::var_os("COALITION_TEST_FULL").is_some_and(|value| value == "1")
}

/// The seed of a run: a new one, unless one is asked for.
pub(crate) fn seed() -> u64 {
    match std::env::var("COALITION_TEST_SEED") {
        Ok(text) => text.parse().expect("COALITION_TEST_SEED is a number"),
        Err(_) => fastrand::u64(..),
    }
}

#[test]
fn on_sqlite() {
    under_fire("SQLite", Setting::one_process(Engine::Sqlite));
}

#[test]
fn on_postgres() {
    under_fire("PostgreSQL", Setting::one_process(Engine::Postgres));
}

#[test]
fn on_postgres_with_two_of_each() {
    under_fire("PostgreSQL, two of each", Setting::two_of_each());
}

fn under_fire(name: &str, setting: impl Future<Output = Option<Setting>>) {
    bounded(async {
        let Some(setting) = setting.await else {
            not_run("PostgreSQL: no server binaries found");
            return;
        };
        let seed = seed();
        let lasting = if full() { FULL } else { SHORT };
        crate::told(&format!("fire on {name}: seed {seed}"));
        let world = World::make(&setting).await;
        let (shots, samples) = watch::run(&setting, &world, seed, lasting).await;
        crate::told(&format!(
            "fire on {name}: {} in {} s",
            calls::figures(&shots),
            lasting.as_secs()
        ));
        let books = books::Books::read(&setting).await;
        books.check(&setting, &world, &shots).await;
        let ordered = order::of(&setting, &world, &books, &shots).await;
        agreement::check(&setting, &world, &books, &shots, &ordered);
        let repeated = clients::repeat(&world, &shots, seed).await;
        setting.network.assert_books_balance().await;
        assert_eq!(deadlocks(&setting).await, 0, "rows are taken in one order");
        let logs = setting.stop().await;
        let waits = waits::of(&logs);
        crate::told(&format!(
            "fire on {name}: seed {seed}: {} postings in {} windows, {samples}; {repeated} repeated; \
             {waits}",
            books.postings(),
            books.windows(),
        ));
        waits.assert();
    });
}

/// How often PostgreSQL had to choose between two that waited for each other.
async fn deadlocks(setting: &Setting) -> i64 {
    match setting.network.engine {
        Engine::Sqlite => 0,
        Engine::Postgres => {
            let count = "select deadlocks from pg_stat_database where datname = current_database()";
            setting.network.number(count).await
        }
    }
}
