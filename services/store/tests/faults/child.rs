//! Processes that end from one moment to the next, at a call of the poster to its database: this
//! test program itself, started once more for each.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use coalition_store::faults::{self, Fault, Faults, Kind, When};
use coalition_store::testing::{Engine, settings};
use tokio::process::Command;

use super::{Callers, Walk, posted, send, world};

/// What tells a child who it is and what it is to do: the database, the batch, the call, the side.
const ORDERS: &str = "COALITION_TEST_FAULT_CHILD";

/// Takes the place of each process that ends; by itself it does nothing.
#[tokio::test]
async fn child() {
    let Ok(orders) = std::env::var(ORDERS) else {
        return;
    };
    let orders: Vec<&str> = orders.split('|').collect();
    let [url, batch, call, when] = orders[..] else {
        panic!("{orders:?}");
    };
    let when = if when == "before" {
        When::Before
    } else {
        When::After
    };
    let fault = Fault {
        when,
        kind: Kind::Abort,
    };
    let faults = Faults::default();
    let store = faults::open(url, &settings(), &faults).await;
    let store = store.expect("the parent has let go of it");
    let poster = world::poster(&store);
    faults.arm(call.parse().expect("a number"), fault);
    let commands = world::commands(batch.parse().expect("a number"));
    let told = send(&poster, &commands, Callers::One).await;
    panic!("still there: {:?}", told.map(|decisions| decisions.len()));
}

async fn abort_at_each_call(engine: Engine) {
    let Some(mut walk) = Walk::begin(engine).await else {
        return;
    };
    let calls = walk.calls_of_posting().await;
    let mut aborted = 0;
    for when in ["before", "after"] {
        for (call, name) in calls.iter().enumerate() {
            let commands = walk.next();
            let at = format!("the end of the process {when} call {call} ({name})");
            let before = world::census(&walk.database).await;
            // A SQLite file belongs to one process.
            walk.close().await;
            let orders = format!("{}|{}|{call}|{when}", walk.database.url, walk.batch);
            let mut child = Command::new(std::env::current_exe().expect("this program"));
            child
                .args(["--exact", "child::child", "--nocapture", "--test-threads=1"])
                .env(ORDERS, orders)
                .env("RUST_BACKTRACE", "0")
                .stdin(Stdio::null());
            let child = child.output().await.expect("it runs");
            assert_eq!(
                child.status.signal(),
                Some(6),
                "{at}: {}",
                String::from_utf8_lossy(&child.stderr)
            );

            walk.open().await;
            walk.assert_nothing_open(&at).await;
            let between = world::census(&walk.database).await;
            let poster = world::poster(walk.store());
            let decisions = posted(&poster, &commands).await;
            let after = world::census(&walk.database).await;
            let is_there = name == "commit" && when == "after";
            assert_eq!(between, *if is_there { &after } else { &before }, "{at}");
            assert_ne!(before, after, "{at}");
            for decision in &decisions {
                assert!(world::is_done(decision), "{at}: {decision:?}");
                assert_eq!(world::is_replay(decision), is_there, "{at}: {decision:?}");
            }
            poster.shut_down().await;
            assert_eq!(world::halves(&walk.database).await, [], "{at}");
            aborted += 1;
        }
    }
    eprintln!("{engine}: {aborted} processes ended at a call");
    walk.end().await;
}

#[tokio::test]
async fn an_end_at_each_call_on_sqlite() {
    abort_at_each_call(Engine::Sqlite).await;
}

#[tokio::test]
async fn an_end_at_each_call_on_postgres() {
    abort_at_each_call(Engine::Postgres).await;
}
