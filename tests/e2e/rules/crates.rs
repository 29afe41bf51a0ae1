//! Rules on crates: which depends on which, and what every manifest says.

use std::collections::BTreeMap;

use serde_json::Value;

use super::sources::Source;

/// Who may depend on whom within the workspace (`services/ARCHITECTURE.md`): dependencies point one
/// way. What a crate needs to test itself may go further, but never upwards.
const DIRECTION: &[(&str, &[&str], &[&str])] = &[
    ("proto", &[], &[]),
    ("ledger", &[], &[]),
    ("store", &["ledger"], &["store"]),
    ("rpc", &["ledger", "proto"], &[]),
    ("gateway", &["rpc", "proto"], &["ledger"]),
    ("earn", SERVICE, &[]),
    ("redeem", SERVICE, &[]),
    ("settlement", SERVICE, &[]),
    ("network", SERVICE, &[]),
    ("node", EVERYTHING_RUNNING, &[]),
    ("tests", EVERYTHING, &[]),
];

const SERVICE: &[&str] = &["store", "rpc", "ledger", "proto"];
const EVERYTHING_RUNNING: &[&str] = &[
    "proto",
    "ledger",
    "store",
    "rpc",
    "gateway",
    "earn",
    "redeem",
    "settlement",
    "network",
];
const EVERYTHING: &[&str] = &[
    "proto",
    "ledger",
    "store",
    "rpc",
    "gateway",
    "earn",
    "redeem",
    "settlement",
    "network",
    "node",
];

/// Libraries that only these crates may name.
const RESERVED: &[(&str, &[&str])] = &[
    // Only the store speaks to a database.
    ("sqlx", &["store"]),
    ("rusqlite", &["store"]),
    // Decimals belong to the ledger's arithmetic; the others only carry rates and face values.
    (
        "rust_decimal",
        &["ledger", "store", "network", "node", "settlement"],
    ),
    // Tokens are checked and made in one place.
    ("jsonwebtoken", &["rpc"]),
];

/// Libraries that not even a test may name elsewhere.
const DATABASES: &[&str] = &["sqlx", "rusqlite"];

/// Libraries that would give the ledger a way to the outside.
const NOT_PURE: &[&str] = &[
    "tokio", "tonic", "hyper", "reqwest", "sqlx", "rusqlite", "futures", "tracing", "fs4",
];

/// Features that only tests may turn on: throw-away databases, and databases that fail on purpose.
const OF_TESTS: &[&str] = &["testing", "faults"];

/// Features of our crates in a build of the binary, as `cargo tree` lists them (`name features`),
/// that only tests may turn on.
pub(super) fn features(tree: &str) -> Vec<String> {
    let ours = tree.lines().filter(|line| line.starts_with("coalition-"));
    let ours: Vec<(&str, &str)> = ours.filter_map(|line| line.split_once(' ')).collect();
    let mut wrong = Vec::new();
    if !ours.iter().any(|(name, _)| *name == "coalition-store") {
        wrong.push("the store is not among the crates of the binary".to_owned());
    }
    for (name, features) in ours {
        let found = features
            .split(',')
            .filter(|feature| OF_TESTS.contains(feature));
        wrong.extend(found.map(|feature| format!("the binary has `{feature}` of {name}")));
    }
    wrong
}

/// Edges between our crates that the architecture does not have, and crates that it does not know.
pub(super) fn direction(metadata: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut seen = Vec::new();
    for dependency in dependencies(metadata) {
        let Dependency { from, to, kind, .. } = &dependency;
        let Some(to) = to.strip_prefix("coalition-") else {
            continue;
        };
        let Some((_, normal, testing)) = DIRECTION.iter().find(|(name, ..)| name == from) else {
            wrong.push(format!("{from} is not a crate of the architecture"));
            continue;
        };
        let allowed = normal.contains(&to) || (kind == "dev" && testing.contains(&to));
        if !allowed {
            wrong.push(format!("{from} must not depend on {to} ({kind})"));
        }
    }
    for package in packages(metadata) {
        let name = short_name(package);
        if !DIRECTION.iter().any(|(known, ..)| *known == name) {
            wrong.push(format!("{name} is not a crate of the architecture"));
        }
        seen.push(name);
    }
    let missing = DIRECTION
        .iter()
        .filter(|(name, ..)| !seen.iter().any(|seen| seen == name));
    wrong.extend(missing.map(|(name, ..)| format!("the crate {name} is missing")));
    wrong
}

/// Libraries named by a crate that must not know them.
pub(super) fn reserved(metadata: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for dependency in dependencies(metadata) {
        let Dependency {
            from,
            to,
            kind,
            features,
        } = &dependency;
        let owners = RESERVED.iter().find(|(library, _)| library == to);
        // A test may make tokens and decimals of its own; only the store's may speak SQL.
        let testing = (kind == "dev" || from == "tests") && !DATABASES.contains(&to.as_str());
        if let Some((library, owners)) = owners
            && !testing
            && !owners.contains(&from.as_str())
        {
            wrong.push(format!("{from} must not depend on {library} ({kind})"));
        }
        if from == "ledger" && kind != "dev" && NOT_PURE.contains(&to.as_str()) {
            wrong.push(format!("the ledger is pure: it must not depend on {to}"));
        }
        let of_tests = |feature: &String| OF_TESTS.contains(&feature.as_str());
        if features.iter().any(of_tests) && kind != "dev" && from != "tests" {
            wrong.push(format!("{from} must not run on the test harness of {to}"));
        }
    }
    wrong
}

/// Manifests that go their own way: lints, versions and edition stand once, in the workspace.
pub(super) fn manifests(manifests: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    for manifest in manifests {
        let path = &manifest.path;
        let sections = sections(&manifest.text);
        let has = |section: &str, line: &str| {
            sections
                .get(section)
                .is_some_and(|lines| lines.iter().any(|found| found == line))
        };
        if !has("[lints]", "workspace = true") {
            wrong.push(format!("{path} does not take the workspace's lints"));
        }
        for field in ["version", "edition", "rust-version", "license", "publish"] {
            if !has("[package]", &format!("{field}.workspace = true")) {
                wrong.push(format!("{path} does not take `{field}` from the workspace"));
            }
        }
        for section in [
            "[dependencies]",
            "[dev-dependencies]",
            "[build-dependencies]",
        ] {
            let lines = sections.get(section).map(Vec::as_slice).unwrap_or_default();
            let own = lines.iter().filter(|line| {
                line.contains("version =") || line.contains("git =") || line.contains("= \"")
            });
            wrong
                .extend(own.map(|line| format!("{path}: versions stand in the workspace: {line}")));
        }
    }
    wrong
}

/// Lints that the workspace must have, and bans that clippy must know.
pub(super) fn lints(workspace: &str, clippy: &str) -> Vec<String> {
    let sections = sections(workspace);
    let mut wrong = Vec::new();
    for (section, lints) in [
        (
            "[workspace.lints.rust]",
            &[
                "unsafe_code = \"forbid\"",
                "missing_docs = ",
                "unreachable_pub = ",
            ][..],
        ),
        (
            "[workspace.lints.clippy]",
            &[
                "all = ",
                "pedantic = ",
                "unwrap_used = ",
                "allow_attributes = ",
                "allow_attributes_without_reason = ",
            ],
        ),
    ] {
        let lines = sections.get(section).map(Vec::as_slice).unwrap_or_default();
        let missing = lints.iter().filter(|lint| {
            !lines
                .iter()
                .any(|line| line.starts_with(**lint) && !line.contains("\"allow\""))
        });
        wrong.extend(missing.map(|lint| format!("{section} has no {lint}…")));
    }
    for method in [
        "std::time::SystemTime::now",
        "std::time::Instant::now",
        "jiff::Timestamp::now",
        "uuid::Uuid::now_v7",
    ] {
        let line = clippy
            .lines()
            .find(|line| line.contains(&format!("\"{method}\"")));
        match line {
            None => wrong.push(format!("clippy does not ban {method}")),
            Some(line) if !line.contains("reason = ") => {
                wrong.push(format!("the ban of {method} has no reason"));
            }
            Some(_) => {}
        }
    }
    wrong
}

/// Names in the root that are not the fixed list; dot-files, the lock file and what git ignores may
/// stand beside it.
pub(super) fn top_level(names: &[String], gitignore: &str) -> Vec<String> {
    const FIXED: [&str; 7] = [
        "Cargo.toml",
        "README.md",
        "gateway",
        "migrations",
        "proto",
        "services",
        "tests",
    ];
    let ignored = |name: &str| {
        gitignore
            .lines()
            .any(|line| line.trim().trim_matches('/') == name)
    };
    let beside = |name: &str| name.starts_with('.') || name == "Cargo.lock" || ignored(name);
    let extra = names
        .iter()
        .filter(|name| !FIXED.contains(&name.as_str()) && !beside(name))
        .map(|name| format!("{name} does not belong to the top level"));
    let missing = FIXED
        .iter()
        .filter(|name| !names.iter().any(|found| found == *name))
        .map(|name| format!("{name} is missing from the top level"));
    extra.chain(missing).collect()
}

struct Dependency {
    from: String,
    to: String,
    /// `normal`, `dev` or `build`.
    kind: String,
    features: Vec<String>,
}

fn dependencies(metadata: &Value) -> Vec<Dependency> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    packages(metadata)
        .flat_map(|package| {
            let from = short_name(package);
            package["dependencies"]
                .as_array()
                .into_iter()
                .flatten()
                .map(move |found| Dependency {
                    from: from.clone(),
                    to: text(&found["name"]),
                    kind: found["kind"].as_str().unwrap_or("normal").to_owned(),
                    features: found["features"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .map(text)
                        .collect(),
                })
        })
        .collect()
}

fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().into_iter().flatten()
}

fn short_name(package: &Value) -> String {
    let name = package["name"].as_str().unwrap_or_default();
    name.strip_prefix("coalition-").unwrap_or(name).to_owned()
}

/// The lines below each header of a manifest, without comments and blank ones.
fn sections(manifest: &str) -> BTreeMap<String, Vec<String>> {
    let mut sections: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut header = String::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') && line.ends_with(']') && !line.contains('=') {
            line.clone_into(&mut header);
            sections.entry(header.clone()).or_default();
        } else if !line.is_empty() && !line.starts_with('#') {
            sections
                .entry(header.clone())
                .or_default()
                .push(line.to_owned());
        }
    }
    sections
}
