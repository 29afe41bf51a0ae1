//! What a process finds out before it serves: that the database's schema is another version's, or
//! that the others hash identifiers with another key. It says what to do and ends.

use coalition_store::testing::{Database, Engine};
use coalition_tests::engine::{bounded, not_run};
use coalition_tests::process::Coalition;
use tempfile::TempDir;

use crate::split::{COMMAND_MAX, role};

/// Every command that reads the books and does not bring them up to date.
const ROLES: [&str; 5] = ["earn", "redeem", "settlement", "network", "worker"];

fn folder() -> TempDir {
    TempDir::with_prefix("coalition-startup-").expect("a temporary folder")
}

/// Refused by every role: the words that are said.
async fn refused(names: &[&str], folder: &TempDir, url: &str, words: &[&str]) {
    for name in names {
        let run = role(name, "127.0.0.1:0", folder.path(), url).start().await;
        let run = run.expect_err("it does not fit");
        run.assert_code(1);
        for word in words {
            run.assert_says(word);
        }
    }
}

#[test]
fn another_versions_schema_is_refused_by_every_role() {
    bounded(async {
        let Some(database) = Database::new(Engine::Postgres).await else {
            return not_run("PostgreSQL: no server binaries found");
        };
        let folder = folder();
        let migrate = role("up", "127.0.0.1:0", folder.path(), &database.url);
        let serving = migrate
            .start()
            .await
            .unwrap_or_else(|run| panic!("{run:?}"));
        serving.kill().await;

        let newer = "insert into _sqlx_migrations (version, description, success, checksum, \
                     execution_time) select 9999, 'later', true, checksum, 0 from _sqlx_migrations \
                     where version = 1";
        database.sql(newer).await;
        let (url, words) = (&database.url, ["newer", "9999", "use the newer version"]);
        refused(&ROLES, &folder, url, &words).await;
        refused(&["up"], &folder, url, &words).await;
        let verify = Coalition::new(["verify", "--database-url", url])
            .env("COALITION_DATA_DIR", folder.path());
        verify.run(COMMAND_MAX).await.assert_says("newer");

        // As an upgrade finds it before `migrate` has run.
        database
            .sql("delete from _sqlx_migrations where version > 1")
            .await;
        refused(&ROLES, &folder, url, &["older", "coalition migrate"]).await;
        database.remove().await;
    });
}

#[test]
fn another_identifier_key_is_refused_on_sqlite() {
    another_identifier_key_is_refused(Engine::Sqlite, &["up"]);
}

#[test]
fn another_identifier_key_is_refused_on_postgres() {
    another_identifier_key_is_refused(Engine::Postgres, &["up", "earn", "redeem", "network"]);
}

fn another_identifier_key_is_refused(engine: Engine, roles: &[&str]) {
    bounded(async {
        let Some(database) = Database::new(engine).await else {
            return not_run("PostgreSQL: no server binaries found");
        };
        let (ours, theirs) = (folder(), folder());
        let up = |folder: &TempDir| role("up", "127.0.0.1:0", folder.path(), &database.url).start();
        let serving = up(&ours).await.unwrap_or_else(|run| panic!("{run:?}"));
        serving.kill().await;
        let words = ["another key", "keys.identifier", "identifier.key"];
        refused(roles, &theirs, &database.url, &words).await;
        // Who has the key is at home still.
        let again = up(&ours).await.unwrap_or_else(|run| panic!("{run:?}"));
        again.kill().await;
        database.remove().await;
    });
}
