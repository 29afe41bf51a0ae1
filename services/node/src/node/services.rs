//! Which services a process has, and the gateway in front of them.

use std::sync::Arc;

use anyhow::Context;
use coalition_earn::EarnApi;
use coalition_gateway::{Gateway, GatewayConfig};
use coalition_network::{MemberApi, PartnerApi, SandboxApi};
use coalition_proto::earn::earn_service_server::{self, EarnServiceServer};
use coalition_proto::member::member_service_server::{self, MemberServiceServer};
use coalition_proto::partner::partner_service_server::{self, PartnerServiceServer};
use coalition_proto::redeem::redeem_service_server::{self, RedeemServiceServer};
use coalition_proto::sandbox::sandbox_service_server::{self, SandboxServiceServer};
use coalition_proto::settlement::settlement_service_server::{self, SettlementServiceServer};
use coalition_redeem::RedeemApi;
use coalition_rpc::{Authenticator, Health, Services, Stack, StackSettings, Upstream};
use coalition_settlement::SettlementApi;
use tokio_util::sync::CancellationToken;

use super::Roles;
use super::books::OpenBooks;
use crate::config::Config;

/// What a process serves.
pub(super) struct Served {
    /// Every call goes in here.
    pub(super) stack: Stack,
    /// What is told of it, outermost first.
    pub(super) health: Vec<Health>,
}

/// The services that each role stands for, by their full names.
const EARN: [&str; 1] = [earn_service_server::SERVICE_NAME];
const REDEEM: [&str; 1] = [redeem_service_server::SERVICE_NAME];
const SETTLEMENT: [&str; 1] = [settlement_service_server::SERVICE_NAME];
const NETWORK: [&str; 3] = [
    partner_service_server::SERVICE_NAME,
    member_service_server::SERVICE_NAME,
    sandbox_service_server::SERVICE_NAME,
];

/// Puts together what these roles serve.
///
/// # Errors
///
/// An upstream's address is none.
pub(super) async fn put_together(
    config: &Config,
    roles: Roles,
    authenticator: &Arc<Authenticator>,
    books: Option<&OpenBooks>,
    shutdown: CancellationToken,
) -> anyhow::Result<Served> {
    let own = match books {
        Some(books) => Some(services(config, roles, authenticator, books, shutdown.clone()).await?),
        None => None,
    };
    let gateway = match (roles, &own) {
        (Roles::All, Some((stack, _))) => within(config, authenticator, stack),
        (Roles::Gateway, _) => across(config, authenticator)?,
        (_, Some((stack, health))) => {
            return Ok(Served {
                stack: stack.clone(),
                health: vec![health.clone()],
            });
        }
        (_, None) => anyhow::bail!("a process without books serves nothing"),
    };
    let gateway = Gateway::start(gateway, shutdown).await?;
    let inner = own.map(|(_, health)| health);
    Ok(Served {
        stack: gateway.stack(),
        health: [gateway.health().clone()]
            .into_iter()
            .chain(inner)
            .collect(),
    })
}

/// The services of these roles, with the layers around them, serving.
async fn services(
    config: &Config,
    roles: Roles,
    authenticator: &Arc<Authenticator>,
    books: &OpenBooks,
    shutdown: CancellationToken,
) -> anyhow::Result<(Stack, Health)> {
    let has = |role| roles == Roles::All || roles == role;
    let OpenBooks { books, keys, .. } = books;
    let mut services = Services::new();
    if has(Roles::Earn) {
        let api = EarnApi::new(books.clone(), keys.identifier.clone());
        services = services.with(EarnServiceServer::new(api));
    }
    if has(Roles::Redeem) {
        let api = RedeemApi::new(books.clone(), keys.identifier.clone());
        services = services.with(RedeemServiceServer::new(api));
    }
    if has(Roles::Settlement) {
        let api = SettlementApi::new(books.clone(), keys.page_token.clone());
        services = services.with(SettlementServiceServer::new(api));
    }
    if has(Roles::Network) {
        let tokens = &keys.page_token;
        let members = MemberApi::new(books.clone(), keys.identifier.clone(), tokens.clone());
        services = services
            .with(PartnerServiceServer::new(PartnerApi::new(
                books.clone(),
                tokens.clone(),
            )))
            .with(MemberServiceServer::new(members))
            .with(SandboxServiceServer::new(SandboxApi::new(books.clone())));
    }
    let settings = StackSettings {
        calls_max: config.limits.calls,
        reflection: config.reflects(),
        ..StackSettings::new(Arc::clone(authenticator), shutdown)
    };
    let (stack, health) = services.stack(settings).await?;
    health.set_all(true).await;
    Ok((stack, health))
}

/// A gateway to the services of this process.
fn within(config: &Config, authenticator: &Arc<Authenticator>, stack: &Stack) -> GatewayConfig {
    let here = Upstream::local(stack.clone());
    let all = EARN
        .into_iter()
        .chain(REDEEM)
        .chain(SETTLEMENT)
        .chain(NETWORK);
    gateway(config, authenticator).with(all, &here)
}

/// A gateway to other processes.
fn across(config: &Config, authenticator: &Arc<Authenticator>) -> anyhow::Result<GatewayConfig> {
    let upstreams = &config.upstreams;
    let to = |name: &str, addresses: &[String]| {
        Upstream::remote(addresses).with_context(|| format!("upstreams.{name}"))
    };
    Ok(gateway(config, authenticator)
        .with(EARN, &to("earn", &upstreams.earn)?)
        .with(REDEEM, &to("redeem", &upstreams.redeem)?)
        .with(SETTLEMENT, &to("settlement", &upstreams.settlement)?)
        .with(NETWORK, &to("network", &upstreams.network)?))
}

fn gateway(config: &Config, authenticator: &Arc<Authenticator>) -> GatewayConfig {
    GatewayConfig {
        calls_max: config.limits.calls,
        reflection: config.reflects(),
        ..GatewayConfig::new(Arc::clone(authenticator))
    }
}
