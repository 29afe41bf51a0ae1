//! The lines that the architecture draws, held: which crate knows which, who makes statuses, who
//! does arithmetic, who speaks SQL, what the root of the repository shows.
//!
//! Each rule takes text and gives what is wrong with it; so each is also shown something planted, to
//! see that it can fail. What a rule means stands in `services/ARCHITECTURE.md`.

mod code;
mod crates;
mod sources;
mod tokens;

use serde_json::json;

use self::sources::Source;

#[test]
fn dependencies_point_one_way() {
    none(&crates::direction(&sources::metadata()));
}

#[test]
fn libraries_stay_where_they_belong() {
    none(&crates::reserved(&sources::metadata()));
}

#[test]
fn what_is_for_tests_is_not_in_the_binary() {
    none(&crates::features(&sources::features()));
    let built = coalition_tests::process::release_binary();
    let Some(built) = built.and_then(|path| std::fs::read(path).ok()) else {
        return coalition_tests::engine::not_run("the release build: there is none that is fresh");
    };
    let marker = b"a fault on purpose";
    let found = built.windows(marker.len()).any(|bytes| bytes == marker);
    assert!(!found, "the release build can fail on purpose");
}

#[test]
fn manifests_take_what_the_workspace_says() {
    none(&crates::manifests(&sources::manifests()));
    let (workspace, clippy) = (sources::read("Cargo.toml"), sources::read(".clippy.toml"));
    none(&crates::lints(&workspace.text, &clippy.text));
}

#[test]
fn the_top_level_is_fixed() {
    none(&crates::top_level(
        &sources::top_level(),
        &sources::read(".gitignore").text,
    ));
}

#[test]
fn only_the_status_module_makes_statuses() {
    none(&code::statuses(&sources::rust_sources()));
}

#[test]
fn only_the_store_names_a_database() {
    none(&code::sql(&sources::rust_sources()));
}

#[test]
fn no_transaction_is_begun_by_sqlx() {
    none(&code::begins(&sources::rust_sources()));
}

#[test]
fn only_the_ledger_does_arithmetic_on_points_and_money() {
    none(&code::arithmetic(&sources::rust_sources()));
}

#[test]
fn the_gateway_knows_neither_store_nor_books() {
    none(&code::gateway(&sources::rust_sources()));
}

#[test]
fn nothing_unwanted_is_written() {
    none(&code::unwanted(&sources::rust_sources()));
}

#[test]
fn every_module_says_what_it_is_for() {
    none(&code::modules(&sources::rust_sources()));
}

#[test]
fn planted_dependencies_are_found() {
    let edge = |from: &str, to: &str, kind: Option<&str>, features: &[&str]| {
        json!({"packages": [{
            "name": from,
            "dependencies": [{"name": to, "kind": kind, "features": features}],
        }]})
    };
    for (from, to, kind) in [
        ("coalition-ledger", "coalition-store", None),
        ("coalition-ledger", "coalition-proto", Some("dev")),
        ("coalition-rpc", "coalition-store", None),
        ("coalition-gateway", "coalition-store", None),
        ("coalition-gateway", "coalition-ledger", None),
        ("coalition-earn", "coalition-redeem", None),
        ("coalition-store", "coalition-rpc", Some("build")),
        ("coalition-node", "coalition-tests", Some("dev")),
        ("coalition-new", "coalition-ledger", None),
    ] {
        let wrong = crates::direction(&edge(from, to, kind, &[]));
        assert!(
            wrong.iter().any(|line| !line.ends_with("is missing")),
            "{from} → {to}: {wrong:?}"
        );
    }
    for (from, to, kind, features) in [
        ("coalition-node", "sqlx", None, &[][..]),
        ("coalition-tests", "sqlx", None, &[]),
        ("coalition-tests", "rusqlite", None, &[]),
        ("coalition-rpc", "sqlx", Some("dev"), &[]),
        ("coalition-earn", "rust_decimal", None, &[]),
        ("coalition-gateway", "jsonwebtoken", None, &[]),
        ("coalition-ledger", "tokio", None, &[]),
        ("coalition-node", "coalition-store", None, &["testing"]),
        ("coalition-node", "coalition-store", None, &["faults"]),
    ] {
        let wrong = crates::reserved(&edge(from, to, kind, features));
        assert_eq!(wrong.len(), 1, "{from} → {to}: {wrong:?}");
    }
    let wrong = |tree: &str| crates::features(tree).len();
    assert_eq!(wrong("coalition-store \ntokio faults,testing\n"), 0);
    assert_eq!(
        wrong("coalition-node \ncoalition-store faults,testing\n"),
        2
    );
    assert_eq!(wrong("tokio default\n"), 1);
}

#[test]
fn planted_manifests_are_found() {
    let fine = "[package]\nname = \"coalition-x\"\nversion.workspace = true\nedition.workspace = true\n\
                rust-version.workspace = true\nlicense.workspace = true\npublish.workspace = true\n\
                [lints]\nworkspace = true\n[dependencies]\nhttp = { workspace = true }\n";
    let wrong = |text: &str| crates::manifests(&[Source::planted("x/Cargo.toml", text)]).len();
    assert_eq!(wrong(fine), 0);
    assert_eq!(wrong(&fine.replace("[lints]\nworkspace = true\n", "")), 1);
    assert_eq!(wrong(&fine.replace("[lints]", "[lints.rust]")), 1);
    assert_eq!(
        wrong(&fine.replace("edition.workspace = true", "edition = \"2021\"")),
        1
    );
    assert_eq!(wrong(&fine.replace("{ workspace = true }", "\"1\"")), 1);
    assert_eq!(
        wrong(&fine.replace("workspace = true }", "version = \"1\" }")),
        1
    );

    let (workspace, clippy) = (
        sources::read("Cargo.toml").text,
        sources::read(".clippy.toml").text,
    );
    let wrong = |workspace: &str, clippy: &str| crates::lints(workspace, clippy).len();
    assert_eq!(
        wrong(&workspace.replace("\"forbid\"", "\"warn\""), &clippy),
        1
    );
    assert_eq!(
        wrong(
            &workspace.replace("unwrap_used = \"warn\"", "unwrap_used = \"allow\""),
            &clippy
        ),
        1
    );
    assert_eq!(
        wrong(
            &workspace,
            &clippy.replace("SystemTime::now", "SystemTime::elapsed")
        ),
        1
    );
}

#[test]
fn planted_files_at_the_top_are_found() {
    let names = |names: &str| names.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let fixed = "Cargo.toml README.md gateway migrations proto services tests";
    let wrong = |list: &str| crates::top_level(&names(list), "/target/\n").len();
    assert_eq!(wrong(fixed), 0);
    assert_eq!(wrong(&format!("{fixed} .git Cargo.lock target")), 0);
    assert_eq!(wrong(&format!("{fixed} docs")), 1);
    assert_eq!(wrong(&fixed.replace("README.md ", "")), 1);
}

#[test]
fn planted_code_is_found() {
    type Rule = fn(&[Source]) -> Vec<String>;
    let rows: [(Rule, &str, &str, usize); 37] = [
        (
            code::statuses,
            "services/earn/src/lib.rs",
            "fn f() { Status::internal(\"no\") }",
            1,
        ),
        (
            code::statuses,
            "services/earn/src/lib.rs",
            "fn f() { tonic::Status::new(c, m) }",
            1,
        ),
        (
            code::statuses,
            "gateway/src/lib.rs",
            "fn f() { Status :: from_error(e) }",
            1,
        ),
        (
            code::statuses,
            "services/earn/src/lib.rs",
            "fn f() { Status::from(problem) }",
            0,
        ),
        (
            code::statuses,
            "services/earn/src/lib.rs",
            "// Status::internal(m)\n",
            0,
        ),
        (
            code::statuses,
            "services/earn/src/lib.rs",
            "fn f() { StatusCode::new(1); PartnerStatus::new(1) }",
            0,
        ),
        (
            code::statuses,
            "services/rpc/src/status/ledger.rs",
            "fn f() { Status::internal(m) }",
            0,
        ),
        (
            code::statuses,
            "services/rpc/src/status_else.rs",
            "fn f() { Status::internal(m) }",
            1,
        ),
        (
            code::statuses,
            "services/earn/src/lib.rs",
            "#[cfg(test)] mod tests { fn f() { Status::ok(m) } }",
            0,
        ),
        (
            code::statuses,
            "services/earn/src/lib.rs",
            "#[cfg(test)] mod tests; fn f() { Status::ok(m) }",
            1,
        ),
        (
            code::gateway,
            "gateway/src/route.rs",
            "use coalition_store::Store;",
            1,
        ),
        (
            code::gateway,
            "gateway/src/route.rs",
            "fn f() -> coalition_ledger::Timestamp { now() }",
            1,
        ),
        (
            code::gateway,
            "gateway/src/route.rs",
            "/// coalition_store\nfn f() { \"coalition_store\"; }",
            0,
        ),
        (
            code::sql,
            "services/node/src/main.rs",
            "fn f() { sqlx::query(\"select 1\") }",
            1,
        ),
        (code::sql, "tests/src/lib.rs", "use sqlx::Row;", 1),
        (code::sql, "tests/src/lib.rs", "use rusqlite::Row;", 1),
        (code::sql, "services/store/src/unit.rs", "use sqlx::Row;", 0),
        (
            code::begins,
            "services/store/src/unit.rs",
            "async fn f() { pool.begin().await }",
            1,
        ),
        (
            code::begins,
            "services/store/src/unit.rs",
            "async fn f() { connection.begin_with(\"begin\").await }",
            1,
        ),
        (
            code::begins,
            "services/store/src/poster.rs",
            "async fn f() { self.store.begin(WindowLock::Shared).await }",
            0,
        ),
        (
            code::arithmetic,
            "services/earn/src/lib.rs",
            "fn f() { a.get() + b }",
            1,
        ),
        (
            code::arithmetic,
            "services/earn/src/lib.rs",
            "fn f() { 2 * self.lots[0].points.get() }",
            1,
        ),
        (
            code::arithmetic,
            "services/earn/src/lib.rs",
            "fn f() { a.get().checked_add(1) }",
            1,
        ),
        (
            code::arithmetic,
            "services/earn/src/lib.rs",
            "fn f() { Points::new(a.x - b.y) }",
            1,
        ),
        (
            code::arithmetic,
            "services/earn/src/lib.rs",
            "fn f() { Micros::new(sum(a) * 100) }",
            1,
        ),
        (
            code::arithmetic,
            "services/earn/src/lib.rs",
            "fn f() -> i64 { (a.get(), Points::new(-1)); *b.get() }",
            0,
        ),
        (
            code::arithmetic,
            "services/earn/src/lib.rs",
            "fn f() { cell.get().is_some(); map.get(a + 1) }",
            0,
        ),
        (
            code::arithmetic,
            "services/ledger/src/money.rs",
            "fn f() { a.get() + b }",
            0,
        ),
        (
            code::unwanted,
            "services/earn/src/lib.rs",
            "#[allow(dead_code)] fn f() {}",
            1,
        ),
        (
            code::unwanted,
            "services/earn/src/lib.rs",
            "#![allow(dead_code)]",
            1,
        ),
        (
            code::unwanted,
            "services/earn/src/tests.rs",
            "#[test] #[ignore] fn f() {}",
            1,
        ),
        (
            code::unwanted,
            "services/earn/src/lib.rs",
            "fn f() { todo!() } fn g() { unimplemented!() }",
            2,
        ),
        (
            code::unwanted,
            "services/earn/src/lib.rs",
            concat!("fn f() { 1 } // TO", "DO the rest\n"),
            1,
        ),
        (
            code::unwanted,
            "services/earn/tests/a.rs",
            "fn f() { thread::sleep(d) }",
            1,
        ),
        (
            code::unwanted,
            "services/earn/src/lib.rs",
            "fn f() { unsafe { g() } }",
            1,
        ),
        (
            code::modules,
            "services/earn/src/lib.rs",
            "use std::fmt;",
            1,
        ),
        (
            code::modules,
            "services/earn/src/quote/mod.rs",
            "//! Quotes.\n",
            1,
        ),
    ];
    for (rule, path, text, expected) in rows {
        let wrong = rule(&[Source::planted(path, text)]);
        assert_eq!(wrong.len(), expected, "{path}: {text}: {wrong:?}");
    }
    let broken = Source::planted("services/earn/src/lib.rs", "fn f() { ( }");
    assert_eq!(
        code::statuses(&[broken]).len(),
        1,
        "what cannot be read is not taken for fine"
    );
}

fn none(wrong: &[String]) {
    assert!(
        wrong.is_empty(),
        "{} found:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
