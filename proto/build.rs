//! Turns the protos into Rust: messages, clients and servers, the descriptor set, the access policies
//! and the field rules.
//!
//! Needs no installed `protoc`. The same protos give the same output, byte for byte. An RPC without an
//! access policy, or a field rule that the generator does not know, fails the build and is named.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

#[path = "build/annotations.rs"]
mod annotations;
#[path = "build/patterns.rs"]
mod patterns;
#[path = "build/policies.rs"]
mod policies;
#[path = "build/rules.rs"]
mod rules;

fn main() -> ExitCode {
    let Err(error) = generate() else {
        return ExitCode::SUCCESS;
    };
    for line in error.to_string().lines() {
        println!("cargo::error={line}");
    }
    ExitCode::FAILURE
}

fn generate() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for watched in ["build.rs", "build", "coalition", "buf"] {
        println!("cargo::rerun-if-changed={watched}");
    }

    let files = protos(&root.join("coalition"))?;
    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(&files)?;
    let pool = compiler.descriptor_pool();

    let policies = policies::read(&pool)?;
    fs::write(out.join("policies.rs"), policies::render(&policies))?;
    fs::write(out.join("rules.rs"), rules::generate(&pool)?)?;

    // Comments become documentation in the generated code, but are no part of the descriptor set.
    let mut with_comments = compiler.file_descriptor_set();
    with_comments
        .file
        .retain(|file| !file.name().starts_with("buf/"));
    tonic_prost_build::configure()
        .include_file("packages.rs")
        .compile_fds(with_comments)?;

    compiler.include_source_info(false);
    fs::write(
        out.join("descriptors.binpb"),
        compiler.encode_file_descriptor_set(),
    )?;
    Ok(())
}

/// All `.proto` files under `folder`, sorted, so that the output does not depend on the file system.
fn protos(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "proto")
            {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
