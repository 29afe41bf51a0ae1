//! The binary `coalition`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    coalition_node::cli::run().await
}
