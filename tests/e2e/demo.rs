//! The README's first command, as it is run on a fresh machine.

use coalition_tests::engine::bounded;
use coalition_tests::process::Coalition;
use tempfile::TempDir;

use crate::split::COMMAND_MAX;

/// Columns that what is printed may take.
const WIDTH_MAX: usize = 100;

#[test]
fn the_demo_ends_with_books_that_balance() {
    bounded(async {
        let folder = TempDir::with_prefix("coalition-demo-").expect("a temporary folder");
        let run = Coalition::new(["demo", "--exit", "--listen", "127.0.0.1:0"])
            .within(folder.path())
            .run(COMMAND_MAX)
            .await;
        run.assert_code(0);
        let printed = run.stdout.to_lowercase();
        for words in [
            "whose points were spent where",
            "is owed (eur)",
            "payments that settle the window",
            "issued",
            "expired",
            "books balance",
        ] {
            assert!(
                printed.contains(words),
                "{words:?} is not in\n{}",
                run.stdout
            );
        }
        // Piped, it is plain text of bounded width.
        assert!(!run.stdout.contains('\u{1b}'), "{}", run.stdout);
        for line in run.stdout.lines() {
            assert!(
                line.chars().count() <= WIDTH_MAX,
                "{} columns: {line}",
                line.chars().count()
            );
        }
        // Nothing is left behind but an empty data directory.
        let left = std::fs::read_dir(folder.path())
            .expect("the folder is there")
            .count();
        assert!(left <= 1, "{left} entries left");
    });
}
