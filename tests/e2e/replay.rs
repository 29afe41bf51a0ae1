//! Journals through the gateway: a small one with every case, which a fresh clone has, and half a
//! year of real purchases where they are there. Every figure must come out exactly.

use std::path::{Path, PathBuf};
use std::time::Duration;

use coalition_store::testing::{Database, Engine};
use coalition_tests::engine::{bounded, bounded_by, not_run};
use coalition_tests::process::{Coalition, Run, release_binary, workspace};
use tempfile::TempDir;

use crate::split::{COMMAND_MAX, Split};

/// Longest for half a year of purchases, other tests beside it.
const HALF_YEAR_MAX: Duration = Duration::from_mins(9);

/// Longest for a test of it, with everything around.
const HALF_YEAR_TEST_MAX: Duration = Duration::from_mins(10);

/// The files of a replay.
#[derive(Clone)]
pub(crate) struct Files {
    partners: PathBuf,
    journal: PathBuf,
    windows: PathBuf,
    balances: PathBuf,
}

impl Files {
    pub(crate) fn small() -> Self {
        let folder = workspace().join("tests/fixtures/journal");
        Self {
            partners: folder.join("partners.csv"),
            journal: folder.join("journal.csv"),
            windows: folder.join("expected_windows.csv"),
            balances: folder.join("expected_balances.csv"),
        }
    }

    /// Real purchases; they lie beside the repository, not in it.
    fn real() -> Option<Self> {
        let folder = workspace().join("../shared/data/complete_journey");
        let file = |name: &str| folder.join(format!("complete_journey_2017_01_06.{name}"));
        let files = Self {
            partners: file("partners.csv"),
            journal: file("journal.csv.gz"),
            windows: file("expected_windows.csv"),
            balances: file("expected_balances.csv.gz"),
        };
        files.journal.exists().then_some(files)
    }

    pub(crate) fn arguments(&self) -> Vec<String> {
        [
            ("--partners", &self.partners),
            ("--journal", &self.journal),
            ("--expect-windows", &self.windows),
            ("--expect-balances", &self.balances),
        ]
        .into_iter()
        .flat_map(|(flag, file)| [flag.to_owned(), file.display().to_string()])
        .collect()
    }
}

fn replay(files: &Files, folder: &Path) -> Coalition {
    let arguments = ["replay".to_owned()].into_iter().chain(files.arguments());
    Coalition::new(arguments).env("COALITION_DATA_DIR", folder)
}

fn folder() -> TempDir {
    TempDir::with_prefix("coalition-replay-").expect("a temporary folder")
}

#[test]
fn a_small_journal_matches_on_sqlite() {
    bounded(async {
        let folder = folder();
        let run = replay(&Files::small(), folder.path())
            .run(COMMAND_MAX)
            .await;
        run.assert_code(0);
    });
}

#[test]
fn a_small_journal_matches_on_postgres() {
    bounded(async {
        let Some(database) = Database::new(Engine::Postgres).await else {
            return not_run("PostgreSQL: no server binaries found");
        };
        let folder = folder();
        let run =
            replay(&Files::small(), folder.path()).env("COALITION_DATABASE_URL", &database.url);
        run.run(COMMAND_MAX).await.assert_code(0);
        // The database is kept, and its books are in order.
        let verify = Coalition::new(["verify", "--database-url", &database.url])
            .env("COALITION_DATA_DIR", folder.path());
        verify.run(COMMAND_MAX).await.assert_code(0);
        database.remove().await;
    });
}

/// A figure that is not as expected is named, and the command fails.
#[test]
fn differences_are_named() {
    bounded(async {
        let folder = folder();
        let small = Files::small();
        let windows = read(&small.windows).replace(
            "2,2026-04-11T00:00:00Z,p02,1097,",
            "2,2026-04-11T00:00:00Z,p02,1098,",
        );
        let balances = read(&small.balances).replace("m5,60", "m5,61");
        assert_ne!(
            (&windows, &balances),
            (&read(&small.windows), &read(&small.balances))
        );
        let wrong = Files {
            windows: write(&folder, "windows.csv", &windows),
            balances: write(&folder, "balances.csv", &balances),
            ..small
        };
        let run = replay(&wrong, folder.path()).run(COMMAND_MAX).await;
        run.assert_code(1);
        for word in ["p02", "issued", "1098", "1097", "m5", "61", "60"] {
            run.assert_says(word);
        }
        let named = |word: &str| run.stdout.contains(word);
        assert!(
            !named("p03") && !named("m6"),
            "only what differs is named\n{}",
            run.stdout
        );
    });
}

/// A file that makes no sense is named, with the line and the column.
#[test]
fn malformed_files_are_named() {
    bounded(async {
        let folder = folder();
        let small = Files::small();
        let journal = read(&small.journal);
        let rows: [(&str, String, &[&str]); 5] = [
            (
                "an amount",
                journal.replacen(",3933,", ",39x33,", 1),
                &["journal.csv", "2", "amount_minor"],
            ),
            (
                "a kind",
                journal.replacen("1,EARN", "1,GIVE", 1),
                &["journal.csv", "2", "type"],
            ),
            (
                "a partner",
                journal.replacen(",p01,", ",p99,", 1),
                &["journal.csv", "2", "partner"],
            ),
            (
                "a time",
                journal.replacen("2026-03-01T08:54:52Z", "yesterday", 1),
                &["journal.csv", "2", "occurred_at"],
            ),
            (
                "the header",
                journal.replacen("seq,type", "seq,kind", 1),
                &["journal.csv", "type"],
            ),
        ];
        for (what, text, named) in rows {
            assert_ne!(text, journal, "{what}");
            let files = Files {
                journal: write(&folder, "journal.csv", &text),
                ..small.clone()
            };
            let run: Run = replay(&files, folder.path()).run(COMMAND_MAX).await;
            assert!(run.code.is_some_and(|code| code != 0), "{what}: {run:?}");
            for word in named {
                run.assert_says(word);
            }
        }
        let missing = Files {
            journal: folder.path().join("nowhere.csv"),
            ..small
        };
        let run = replay(&missing, folder.path()).run(COMMAND_MAX).await;
        assert_ne!(run.code, Some(0));
        run.assert_says("nowhere.csv");
    });
}

#[test]
fn half_a_year_of_real_purchases_matches_on_sqlite() {
    real_purchases(Engine::Sqlite);
}

#[test]
fn half_a_year_of_real_purchases_matches_on_postgres() {
    real_purchases(Engine::Postgres);
}

#[test]
fn half_a_year_of_real_purchases_matches_over_five_processes() {
    let Some((binary, files)) = real() else {
        return;
    };
    bounded_by(HALF_YEAR_TEST_MAX, async {
        let Some(split) = Split::start(&binary).await else {
            return not_run("PostgreSQL: no server binaries found");
        };
        let network = &split.network;
        let arguments = ["replay".to_owned()].into_iter().chain(files.arguments());
        let endpoint = ["--endpoint".to_owned(), network.endpoint().to_owned()];
        let run = Coalition::of(&binary, arguments.chain(endpoint))
            .env("COALITION_DATA_DIR", network.data_dir());
        let run = run.run(HALF_YEAR_MAX).await;
        run.assert_code(0);
        crate::told(&format!(
            "replay over five processes: {}",
            run.stdout.trim()
        ));
        split.network.stop().await;
    });
}

/// What half a year is replayed with: a release build, since 90,529 rows take a debug build too long,
/// and the purchases. `None`, and said so, where either is missing.
fn real() -> Option<(PathBuf, Files)> {
    let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    let Some(files) = Files::real() else {
        not_run("real purchases: ../shared/data is not there");
        return None;
    };
    let Some(binary) = release_binary() else {
        assert!(!in_ci, "build it first: cargo build --release");
        not_run("real purchases: no fresh release build (cargo build --release)");
        return None;
    };
    Some((binary, files))
}

fn real_purchases(engine: Engine) {
    let Some((binary, files)) = real() else {
        return;
    };
    bounded_by(HALF_YEAR_TEST_MAX, async {
        let Some(database) = Database::new(engine).await else {
            return not_run("PostgreSQL: no server binaries found");
        };
        let folder = folder();
        let arguments = ["replay".to_owned()].into_iter().chain(files.arguments());
        let mut run = Coalition::of(&binary, arguments).env("COALITION_DATA_DIR", folder.path());
        if engine == Engine::Postgres {
            run = run.env("COALITION_DATABASE_URL", &database.url);
        }
        let run = run.run(HALF_YEAR_MAX).await;
        run.assert_code(0);
        crate::told(&format!("replay on {engine}: {}", run.stdout.trim()));
        database.remove().await;
    });
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn write(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("a temporary folder can be written to");
    path
}
