//! What the rules look at: the sources, the manifests and the folders of this repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file, with its path from the root of the repository.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// With `/` between folders, for example `services/rpc/src/status.rs`.
    pub(super) path: String,
    /// All of it.
    pub(super) text: String,
}

impl Source {
    /// A file that is not there: for showing that a rule can fail.
    pub(super) fn planted(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// Whether it is part of what runs: not a test, a bench, an example or a build script.
    pub(super) fn is_production(&self) -> bool {
        let path = &self.path;
        path.contains("/src/")
            && !path.starts_with("tests/")
            && !path.contains("/tests/")
            && !path.ends_with("/tests.rs")
            && !path.contains("/src/testing")
    }
}

/// The root of the repository.
pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this crate lies in a folder of the repository")
        .to_owned()
}

/// Every Rust source of the workspace, in the order of the paths.
pub(super) fn rust_sources() -> Vec<Source> {
    let mut found = Vec::new();
    for folder in ["proto", "services", "gateway", "tests"] {
        gather(&root().join(folder), &mut found, &|path| {
            path.extension().is_some_and(|extension| extension == "rs")
        });
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(
        found.len() > 100,
        "only {} sources found: is this the repository?",
        found.len()
    );
    found
}

/// Every manifest of the workspace's crates.
pub(super) fn manifests() -> Vec<Source> {
    let mut found = Vec::new();
    for folder in ["proto", "services", "gateway", "tests"] {
        gather(&root().join(folder), &mut found, &|path| {
            path.ends_with("Cargo.toml")
        });
    }
    found
}

/// A file of the repository.
pub(super) fn read(path: &str) -> Source {
    let text =
        fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    Source {
        path: path.to_owned(),
        text,
    }
}

/// The names in the root folder.
pub(super) fn top_level() -> Vec<String> {
    let entries = fs::read_dir(root()).expect("the root can be read");
    let mut names: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("an entry can be read")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

/// What cargo knows of the workspace's own crates.
pub(super) fn metadata() -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .expect("cargo runs: it is running this test");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("cargo writes JSON")
}

/// The crates of the binary as it is built by itself (what a release is, and what `cargo run` runs),
/// each with its features.
pub(super) fn features() -> String {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--package", "coalition-node"])
        .args([
            "--edges",
            "no-dev",
            "--prefix",
            "none",
            "--format",
            "{lib} {f}",
        ])
        .current_dir(root())
        .output()
        .expect("cargo runs: it is running this test");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).replace('_', "-")
}

fn gather(folder: &Path, found: &mut Vec<Source>, wanted: &impl Fn(&Path) -> bool) {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("an entry can be read").path();
        if path.is_dir() {
            if !path.ends_with("target") && !path.ends_with("fixtures") {
                gather(&path, found, wanted);
            }
        } else if wanted(&path) {
            let text = fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let path = path.strip_prefix(root()).expect("found below the root");
            found.push(Source {
                path: path.to_string_lossy().replace('\\', "/"),
                text,
            });
        }
    }
}
