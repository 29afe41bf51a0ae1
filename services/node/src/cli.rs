//! The command line: what there is to say, and what happens then.
//!
//! Exit codes: 0 done, 1 failed, 2 the command line or the configuration makes no sense.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::commands;
use crate::config::layers::{Flags, LogFlags};
use crate::config::{Config, ConfigError, Layers, LogFormat, Mode};
use crate::logging;
use crate::node::Roles;

/// Exit code of a command line or a configuration that makes no sense.
pub const EXIT_USAGE: u8 = 2;

const EXAMPLES: &str = "\
Examples:
  coalition demo                       a month in a small network, then try it yourself
  coalition up                         run a network on this machine, on an embedded database
  coalition token --role operator_maker --role operator_viewer
                                       a token to call it with

Every setting can stand in a file (--config), in the environment (COALITION_DATA_DIR,
COALITION_LOG_FORMAT, ...) or in a flag; the later override the earlier.";

/// A network of shops that share one points currency: earn here, spend there, settle up.
#[derive(Debug, Parser)]
#[command(name = "coalition", version, after_help = EXAMPLES, propagate_version = true)]
#[command(disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    /// Settings, before or after the command.
    #[command(flatten)]
    pub settings: Settings,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Settings of every command.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Settings")]
pub struct Settings {
    /// The configuration file (TOML)
    #[arg(long, global = true, value_name = "FILE", env = "COALITION_CONFIG")]
    pub config: Option<PathBuf>,
    /// Whether points are real; a database keeps the mode it was made with [default: sandbox]
    #[arg(
        long,
        global = true,
        value_name = "sandbox|production",
        hide_possible_values = true
    )]
    pub mode: Option<Mode>,
    /// Where keys and the embedded database are kept [default: coalition-data]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The database: sqlite:PATH or postgres://USER:PASSWORD@HOST:PORT/DATABASE [default: a SQLite
    /// file in the data directory]
    #[arg(long, global = true, value_name = "URL")]
    pub database_url: Option<String>,
    /// How the log looks [default: text on a terminal, else json]
    #[arg(
        long,
        global = true,
        value_name = "auto|text|json",
        hide_possible_values = true
    )]
    pub log_format: Option<LogFormat>,
    /// What is logged: a level, or target=level,... [default: info where calls are served]
    #[arg(long, global = true, value_name = "FILTER")]
    pub log_filter: Option<String>,
}

/// What the binary can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show a network at work: a simulated month, its figures, and how to call it
    Demo(commands::demo::Args),
    /// Run a whole network in this process
    Up(commands::up::Args),
    /// Make a token to call a sandbox network with
    Token(commands::token::Args),
    /// Recompute every figure in the books from the postings
    Verify(commands::verify::Args),
    /// Send a journal of purchases through a network and compare with what is expected
    Replay(commands::replay::Args),
    /// Measure
    Bench(commands::bench::Args),
    /// Set up a database, or bring it up to date
    Migrate(commands::migrate::Args),
    /// Run a gateway of its own: who calls, what they may, where it goes
    Gateway(commands::role::GatewayArgs),
    /// Run an earn service of its own
    Earn(commands::role::EarnArgs),
    /// Run a redeem service of its own
    Redeem(commands::role::RedeemArgs),
    /// Run a settlement service of its own
    Settlement(commands::role::SettlementArgs),
    /// Run a registry of its own: partners, agreements, members, the sandbox's clock
    Network(commands::role::NetworkArgs),
    /// Run what no call waits for, of its own: points that mature or expire
    Worker(commands::role::WorkerArgs),
}

/// Runs the binary: command line, configuration, log, command.
pub async fn run() -> ExitCode {
    let cli = Cli::parse();
    let config = match cli.load(environment()) {
        Ok(config) => config,
        Err(error) => return misconfigured(&error.into()),
    };
    if let Err(error) = logging::start(&config.log, !cli.command.serves()) {
        return misconfigured(&error);
    }
    match cli.command.run(config).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", whole(&error));
            ExitCode::FAILURE
        }
    }
}

fn misconfigured(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {}", whole(error));
    ExitCode::from(EXIT_USAGE)
}

/// The whole chain on one line: what was tried, and why it failed. A cause that the text before it
/// ends with already is not said again.
fn whole(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if said.ends_with(&cause) {
            continue;
        }
        if !said.is_empty() {
            said.push_str(": ");
        }
        said.push_str(&cause);
    }
    said
}

/// The environment, as far as it is text.
fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

impl Cli {
    /// The configuration that file, `environment` and flags add up to.
    ///
    /// # Errors
    ///
    /// One of them makes no sense.
    pub fn load(&self, environment: Vec<(String, String)>) -> Result<Config, ConfigError> {
        let Settings {
            config,
            mode,
            data_dir,
            database_url,
            log_format,
            log_filter,
        } = self.settings.clone();
        Layers {
            file: config,
            environment,
            flags: Flags {
                mode,
                data_dir,
                database_url,
                listen: self.command.listen(),
                log: LogFlags {
                    format: log_format,
                    filter: log_filter,
                },
            },
        }
        .load()
    }

    /// The definition of the command line, for help texts.
    #[must_use]
    pub fn definition() -> clap::Command {
        Self::command()
    }
}

impl Command {
    /// Whether it goes on until it is told to stop.
    fn serves(&self) -> bool {
        matches!(
            self,
            Self::Up(_)
                | Self::Gateway(_)
                | Self::Earn(_)
                | Self::Redeem(_)
                | Self::Settlement(_)
                | Self::Network(_)
                | Self::Worker(_)
        )
    }

    fn listen(&self) -> Option<std::net::SocketAddr> {
        match self {
            Self::Up(args) => args.listening.listen,
            Self::Gateway(args) => args.listening.listen,
            Self::Earn(args) => args.listening.listen,
            Self::Redeem(args) => args.listening.listen,
            Self::Settlement(args) => args.listening.listen,
            Self::Network(args) => args.listening.listen,
            Self::Worker(args) => args.listening.listen,
            Self::Demo(_)
            | Self::Token(_)
            | Self::Verify(_)
            | Self::Replay(_)
            | Self::Bench(_)
            | Self::Migrate(_) => None,
        }
    }

    async fn run(self, config: Config) -> anyhow::Result<ExitCode> {
        match self {
            Self::Up(_) => commands::up::run(config).await,
            Self::Demo(args) => commands::demo::run(args, config).await,
            Self::Token(args) => commands::token::run(&args, &config),
            Self::Verify(args) => commands::verify::run(&args, &config).await,
            Self::Replay(args) => commands::replay::run(args, config).await,
            Self::Bench(args) => commands::bench::run(args, config).await,
            Self::Migrate(_) => commands::migrate::run(&config).await,
            Self::Gateway(_) => commands::role::run(config, Roles::Gateway).await,
            Self::Earn(_) => commands::role::run(config, Roles::Earn).await,
            Self::Redeem(_) => commands::role::run(config, Roles::Redeem).await,
            Self::Settlement(_) => commands::role::run(config, Roles::Settlement).await,
            Self::Network(_) => commands::role::run(config, Roles::Network).await,
            Self::Worker(_) => commands::role::run(config, Roles::Worker).await,
        }
    }
}
