//! `coalition bench` on a PostgreSQL server that somebody named: it measures in databases of its own
//! there, as often as one likes, and leaves nothing behind.

use std::time::Duration;

use coalition_store::testing::{Database, Server};
use coalition_tests::engine::{bounded, not_run};
use coalition_tests::process::{Coalition, Run};
use tempfile::TempDir;

/// Longest that a small measurement may take: more than it gives its own nodes.
const MEASURED_MAX: Duration = Duration::from_mins(2);

/// A bar that is soon measured.
const ONLY: [&str; 4] = ["bench", "--json", "--only", "memory_idle_mib_postgres"];

/// Databases beside those of the server and the one that is named.
const LEFT: &str = "select count(*) from pg_database where not datistemplate \
                    and datname not in ('postgres', current_database())";

async fn bench(arguments: &[&str], url: &str) -> Run {
    let folder = TempDir::with_prefix("coalition-bench-").expect("a temporary folder");
    Coalition::new(arguments)
        .env("COALITION_DATABASE_URL", url)
        .within(folder.path())
        .run(MEASURED_MAX)
        .await
}

/// Gives a test an empty database on a server of its own.
fn on_a_server(test: impl AsyncFnOnce(&Database)) {
    bounded(async {
        let Some(server) = Server::start() else {
            return not_run("PostgreSQL: no server binaries found");
        };
        test(&Database::on(&server).await).await;
    });
}

#[test]
fn a_named_server_is_left_as_it_was() {
    on_a_server(async |database| {
        for _ in 0..2 {
            let run = bench(&ONLY, &database.url).await;
            run.assert_code(0);
            let report: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
            assert!(report["bars"][0]["value"].as_f64() > Some(0.0), "{report}");
        }
        // Where its disk is nobody knows here.
        let latency = "bench latency --json --engine postgres --seconds 1 --rate 50 --members 200 \
                       --stored 300";
        let run = bench(
            &latency.split_whitespace().collect::<Vec<_>>(),
            &database.url,
        )
        .await;
        run.assert_code(0);
        let report: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
        let engine = &report["engines"][0];
        assert!(engine["p99_ms"].is_f64() && engine["disk_p99_ms"].is_null());

        assert_eq!(database.number(LEFT).await, 0);
        let tables = "select count(*) from pg_tables where schemaname = 'public'";
        assert_eq!(database.number(tables).await, 0, "nothing was written here");
    });
}

#[test]
fn whoever_may_not_make_databases_is_told_what_to_do() {
    on_a_server(async |database| {
        database
            .sql("create role visitor login password 'pAss'")
            .await;
        let (scheme, rest) = database.url.split_once("://").expect("an address");
        let (_, place) = rest.rsplit_once('@').expect("a user in it");
        let url = format!("{scheme}://visitor:p%41ss@{place}");
        let run = bench(&ONLY, &url).await;
        run.assert_code(1);
        run.assert_says("alter role … createdb");
        for secret in ["p%41ss", "pAss"] {
            assert!(!run.stderr.contains(secret), "{}", run.stderr);
        }
    });
}
