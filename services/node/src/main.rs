//! The binary `coalition`.

use std::process::ExitCode;

/// SQLite's too: see decision 16.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    coalition_node::cli::run().await
}
