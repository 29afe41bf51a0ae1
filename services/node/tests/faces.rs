//! `demo`, `replay` and `bench` as somebody runs them: the real binary, its output, its exit code.
//!
//! The small journal in `replay/` was worked out by hand from the words of the domain: a redemption
//! of two issuers' lots and its whole refund, goods returned whose points were spent, the debt
//! repaid, a point spent one second before it would have expired, what nobody spent.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

fn coalition(data: &TempDir, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coalition"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("COALITION_") {
            command.env_remove(name);
        }
    }
    command
        .args(args)
        .arg("--data-dir")
        .arg(data.path())
        .output()
        .expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/replay")
        .join(name)
}

/// Replays the small journal with some of its files replaced.
fn replay(other: &[(&str, &str)]) -> Output {
    let data = TempDir::new().expect("a temporary directory");
    let mut args = vec!["replay".to_owned()];
    for (flag, name) in [
        ("--partners", "partners.csv"),
        ("--journal", "journal.csv"),
        ("--expect-windows", "windows.csv"),
        ("--expect-balances", "balances.csv"),
    ] {
        let file = match other.iter().find(|(other, _)| *other == name) {
            None => fixture(name),
            Some((_, content)) => {
                let file = data.path().join(name);
                std::fs::write(&file, content).expect("a file");
                file
            }
        };
        args.extend([flag.to_owned(), file.display().to_string()]);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    coalition(&data, &args)
}

fn content(name: &str) -> String {
    std::fs::read_to_string(fixture(name)).expect("a fixture")
}

#[test]
fn a_replay_matches_to_the_cent() {
    let output = replay(&[]);
    let said = text(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{said}{}",
        text(&output.stderr)
    );
    for line in [
        "6 of 6 window rows match",
        "3 of 3 balances match",
        "books balance",
        "12 calls through the gateway",
        "no differences",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
}

#[test]
fn a_replay_names_every_difference() {
    let windows = content("windows.csv").replace(
        "2,2020-03-05T00:00:00Z,b2,1,",
        "2,2020-03-05T00:00:00Z,b2,2,",
    );
    let balances = content("balances.csv").replace("m1,65", "m1,66");
    let journal = content("journal.csv").replace("c8,,1,", "c8,,9,");
    let output = replay(&[
        ("windows.csv", &windows),
        ("balances.csv", &balances),
        ("journal.csv", &journal),
    ]);
    let said = text(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(1),
        "{said}{}",
        text(&output.stderr)
    );
    let line = |words: &[&str]| {
        assert!(
            said.lines()
                .any(|line| words.iter().all(|word| line.contains(word))),
            "{words:?}: {said}"
        );
    };
    line(&["row     10", "posted", "INSUFFICIENT_POINTS"]);
    line(&["window 2, b2", "issued", "2", "1"]);
    line(&["member m1", "balance", "66", "65"]);
    line(&["differences"]);
}

#[test]
fn a_damaged_journal_is_named_by_line_and_column() {
    let journal = content("journal.csv").replace("c6,300,", "c6,3x0,");
    let output = replay(&[("journal.csv", &journal)]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("journal.csv: line 8, column amount_minor: \"3x0\" is not a whole number"),
        "{said}"
    );
}

#[test]
fn a_demo_ends_with_books_that_balance() {
    let data = TempDir::new().expect("a temporary directory");
    let output = coalition(
        &data,
        &[
            "demo",
            "--exit",
            "--listen",
            "127.0.0.1:0",
            "--members",
            "16",
        ],
    );
    let said = text(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{said}{}",
        text(&output.stderr)
    );
    for words in [
        "Whose points were spent where",
        "Trattoria Lucia",
        "Payments that settle the window",
        "The sum of all positions, the operator's included: 0 micro-units",
        "Books balance",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    // Plain text where it is not a terminal, and nothing wider than a small one.
    assert!(!said.contains('\u{1b}'), "{said}");
    let wide = said.lines().find(|line| line.chars().count() > 100);
    assert_eq!(wide, None);
    // It leaves nothing behind but the directory that it was given.
    let left = std::fs::read_dir(data.path()).expect("the data directory");
    assert_eq!(left.count(), 0);
}

#[test]
fn a_bench_prints_its_bars_as_json() {
    let data = TempDir::new().expect("a temporary directory");
    let output = coalition(&data, &["bench", "--json", "--only", "memory_idle_mib"]);
    let said = text(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{said}{}",
        text(&output.stderr)
    );
    let json: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert!(json["machine"]["cores"].is_u64());
    assert_eq!(json["bars"][0]["name"], "memory_idle_mib");
    assert!(json["bars"][0]["value"].is_f64());
    assert_eq!(json["bars"][0]["at_most"], 60.0);
    assert_eq!(json["bars"][0]["aim"], 30.0);
}
