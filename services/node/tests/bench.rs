//! `coalition bench` in little: each of its looks runs, and prints what it says it prints. The figures
//! themselves mean nothing here; see `services/performance`.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn bench(place: &TempDir, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coalition"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("COALITION_") {
            command.env_remove(name);
        }
    }
    command
        .arg("bench")
        .args(args)
        .current_dir(place.path())
        .output()
        .expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a look says in JSON.
fn json(place: &TempDir, args: &[&str]) -> Value {
    let output = bench(place, args);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {said}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn place() -> TempDir {
    TempDir::new().expect("a temporary directory")
}

#[test]
fn growth_measures_and_draws_and_draws_again() {
    let place = place();
    let sizes = ["--sizes", "500,1000", "--members", "200", "--partners", "4"];
    let mut args = vec!["growth", "--engine", "sqlite", "--seconds", "1", "--json"];
    args.extend(sizes);
    args.extend(["--svg", "first.svg"]);
    let report = json(&place, &args);
    let rows = report["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 2, "{report}");
    assert_eq!(rows[0]["postings"], 500);
    // The earns that were measured are stored, too.
    assert!(rows[1]["postings"].as_u64() >= Some(1_000));
    for name in [
        "earns_per_s",
        "bytes_per_earn",
        "bytes_per_posting",
        "verify_s",
        "verify_memory_mib",
        "cut_and_compute_s",
        "memory_mib",
    ] {
        assert!(rows[1][name].as_f64() > Some(0.0), "{name}: {report}");
    }
    let drawn = |name: &str| std::fs::read_to_string(place.path().join(name)).expect("a picture");
    assert!(drawn("first.svg").starts_with("<svg "));

    std::fs::write(place.path().join("report.json"), report.to_string()).expect("written");
    let again = bench(
        &place,
        &["growth", "--draw", "report.json", "--svg", "again.svg"],
    );
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
    assert!(text(&again.stdout).contains("B/earn"));
    assert_eq!(drawn("first.svg"), drawn("again.svg"));
}

#[test]
fn latency_names_what_the_worst_calls_waited_for() {
    let place = place();
    let report = json(
        &place,
        &[
            "latency",
            "--json",
            "--engine",
            "sqlite",
            "--seconds",
            "2",
            "--rate",
            "50",
            "--members",
            "200",
            "--stored",
            "300",
            "--slow-ms",
            "0",
            "--worst",
            "3",
        ],
    );
    let latency = &report["engines"][0];
    // Four in five of what is sent is measured, more or less.
    assert!(latency["calls"].as_u64() >= Some(90), "{report}");
    // With every batch told of, every call has its batch.
    assert!(latency["slow_batches"].as_u64() >= Some(1), "{report}");
    let worst = latency["worst"].as_array().expect("the worst");
    assert!(!worst.is_empty() && worst.len() <= 3, "{report}");
    let cause = worst[0]["cause"].as_str().expect("a cause");
    assert!(cause.contains(" of a batch"), "{report}");
    assert!(worst[0]["took_ms"].as_f64() > Some(0.0));
}

#[test]
fn memory_is_sampled_and_judged() {
    let place = place();
    let args = [
        "memory",
        "--json",
        "--engine",
        "sqlite",
        "--seconds",
        "4",
        "--members",
        "200",
    ];
    let output = bench(&place, &args);
    // Four seconds cannot tell whether it is flat, so either verdict will do.
    let said = text(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let series = &report["engines"][0];
    assert!(series["samples"].as_array().expect("samples").len() >= 4);
    assert!(series["is_flat"].is_boolean() && series["slope_mib_per_min"].is_f64());
    assert!(series["most_mib"].as_f64() > Some(5.0), "{report}");
    assert_eq!(
        output.status.success(),
        series["is_flat"] == Value::Bool(true),
        "the exit code tells"
    );
}

#[test]
fn the_yardstick_runs_the_real_pgbench() {
    if !Path::new("/usr/lib/postgresql").exists() {
        assert!(
            std::env::var_os("CI").is_none(),
            "PostgreSQL is not installed"
        );
        eprintln!("NOT RUN: PostgreSQL is not installed");
        return;
    }
    let place = place();
    let report = json(
        &place,
        &[
            "yardstick",
            "--json",
            "--seconds",
            "3",
            "--clients",
            "8",
            "--scale",
            "1",
            "--members",
            "200",
            "--stored",
            "300",
        ],
    );
    let rows = report["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 4);
    for row in rows {
        assert!(row["per_s"].as_f64() > Some(0.0), "{report}");
        assert!(row["p50_ms"].as_f64() <= row["p99_ms"].as_f64(), "{report}");
    }
    assert_eq!(rows[3]["over_pgbench"], 1.0);
    let fsync = serde_json::json!(["fsync", "on"]);
    assert!(
        report["server"]
            .as_array()
            .expect("settings")
            .contains(&fsync)
    );
}

#[test]
fn every_look_helps_with_examples() {
    let place = place();
    for look in ["yardstick", "growth", "latency", "memory"] {
        let output = bench(&place, &[look, "--help"]);
        let help = text(&output.stdout);
        assert!(help.contains("Examples:"), "{look}: {help}");
        assert!(help.contains(&format!("coalition bench {look}")), "{help}");
    }
    // A look and bars together make no sense.
    let output = bench(&place, &["--quick", "memory"]);
    assert_eq!(output.status.code(), Some(2));
}
