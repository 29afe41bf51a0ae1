//! `coalition token`: a bearer token for a sandbox network.

use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context, ensure};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use coalition_ledger::Clock;
use coalition_ledger::ids::PartnerId;
use coalition_proto::policy::Role;
use coalition_rpc::auth::dev::TokenRequest;
use coalition_store::SystemClock;
use jiff::SignedDuration;

use crate::config::Config;
use crate::node::development_key;

const EXAMPLES: &str = "\
Examples:
  coalition token --role pos --partner ptr_01kabc...
  coalition token --role operator_maker --role operator_viewer --expires 30m
  grpcurl -plaintext -H \"authorization: Bearer $(coalition token --role operator_viewer)\" \\
    127.0.0.1:7400 coalition.partner.v1.PartnerService/ListPartners

Prints the token and nothing else. It is signed with the development key of the data directory,
which is made on first use; a production network takes its tokens from an identity provider.";

/// Arguments of `coalition token`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What the token allows; may be given more than once
    #[arg(
        long = "role",
        value_name = "ROLE",
        required = true,
        value_parser = PossibleValuesParser::new(Role::ALL.map(Role::as_str))
            .try_map(|name| Role::from_claim(&name).ok_or("no such role"))
    )]
    pub roles: Vec<Role>,
    /// The partner it is for; needed by pos and partner_admin, refused with the others
    #[arg(long, value_name = "PARTNER_ID")]
    pub partner: Option<PartnerId>,
    /// Bind a till to this location
    #[arg(long, requires = "partner")]
    pub location: Option<String>,
    /// Bind a till to this terminal
    #[arg(long, requires = "partner")]
    pub terminal: Option<String>,
    /// Whom the token is given to
    #[arg(long, default_value = "developer")]
    pub subject: String,
    /// Narrow what the roles allow, as in 'earn:write settlement:read'
    #[arg(long)]
    pub scope: Option<String>,
    /// How long it is good for
    #[arg(long, value_name = "TIME", default_value = "12h", value_parser = lifetime)]
    pub expires: Lifetime,
}

/// How long a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Seconds, at least one.
    pub seconds: u32,
}

/// Mints a token and prints it.
///
/// # Errors
///
/// The network is in production, the roles contradict each other, or the key cannot be used.
pub fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    println!("{}", mint(args, config)?);
    Ok(ExitCode::SUCCESS)
}

/// Mints a token that a network with this configuration accepts.
///
/// # Errors
///
/// See [`run`].
pub fn mint(args: &Args, config: &Config) -> anyhow::Result<String> {
    let of_partner = |role: &Role| matches!(role, Role::Pos | Role::PartnerAdmin);
    let (partner, network): (Vec<Role>, Vec<Role>) =
        args.roles.iter().copied().partition(of_partner);
    ensure!(
        partner.is_empty() || network.is_empty(),
        "a token is for a partner ({}) or for the network ({}), not for both: make two",
        names(&partner),
        names(&network)
    );
    ensure!(
        partner.is_empty() || args.partner.is_some(),
        "{} acts for a partner: name it with --partner ptr_…",
        names(&partner)
    );
    ensure!(
        network.is_empty() || args.partner.is_none(),
        "{} acts for the network: leave out --partner",
        names(&network)
    );
    let key = development_key(config)?;
    let request = TokenRequest {
        subject: args.subject.clone(),
        roles: args.roles.clone(),
        partner: args.partner,
        location: args.location.clone(),
        terminal: args.terminal.clone(),
        scope: args.scope.clone(),
        lifetime_s: args.expires.seconds,
    };
    key.mint(&request, SystemClock.now())
        .context("cannot sign the token")
}

fn names(roles: &[Role]) -> String {
    roles
        .iter()
        .map(|role| role.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}

fn lifetime(text: &str) -> Result<Lifetime, String> {
    let span = SignedDuration::from_str(text)
        .map_err(|_| "expected a time such as 12h, 30m or 90s".to_owned())?;
    let seconds = u32::try_from(span.as_secs())
        .ok()
        .filter(|seconds| *seconds > 0);
    seconds
        .map(|seconds| Lifetime { seconds })
        .ok_or_else(|| "expected a second at least".to_owned())
}
