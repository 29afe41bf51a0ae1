//! A running node, called over a socket with a real client.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use coalition_node::cli::{Cli, Command};
use coalition_node::commands::token;
use coalition_node::{Config, Roles, RunningNode};
use coalition_proto::settlement::settlement_service_client::SettlementServiceClient;
use coalition_proto::settlement::{GetOpenWindowRequest, GetOpenWindowResponse};
use tokio::time::{Instant, timeout};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// What every shutdown ends within, as it says.
const SHUT_DOWN_MAX: Duration = Duration::from_secs(10);

fn config(directory: &Path) -> Config {
    Config {
        data_dir: directory.to_owned(),
        listen: Some(([127, 0, 0, 1], 0).into()),
        ..Config::default()
    }
}

/// A token as the command line makes it.
fn token(config: &Config, arguments: &[&str]) -> String {
    let line = ["coalition", "token"].iter().chain(arguments);
    let Command::Token(args) = Cli::try_parse_from(line).expect("it parses").command else {
        panic!("another command");
    };
    token::mint(&args, config).expect("minted")
}

async fn open_window(channel: &Channel, token: &str) -> Result<GetOpenWindowResponse, Status> {
    let mut request = Request::new(GetOpenWindowRequest::default());
    let bearer = format!("Bearer {token}").parse().expect("a header");
    request.metadata_mut().insert("authorization", bearer);
    let answer = SettlementServiceClient::new(channel.clone())
        .get_open_window(request)
        .await?;
    Ok(answer.into_inner())
}

async fn channel(node: &RunningNode) -> anyhow::Result<Channel> {
    let endpoint = Channel::from_shared(node.endpoint())?;
    endpoint.connect().await.context("connecting")
}

#[tokio::test]
async fn the_whole_network_runs_on_a_file_and_comes_back() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let config = config(directory.path());
    let viewer = token(&config, &["--role", "operator_viewer"]);

    let mut windows = Vec::new();
    for _ in 0..2 {
        let node = RunningNode::start(config.clone(), Roles::All).await?;
        let channel = channel(&node).await?;
        let health = HealthClient::new(channel.clone())
            .check(HealthCheckRequest::default())
            .await?;
        assert_eq!(
            health.into_inner().status(),
            ServingStatus::Serving,
            "ready means serving"
        );

        windows.push(open_window(&channel, &viewer).await?);
        let denied = open_window(&channel, "e30.e30.e30")
            .await
            .expect_err("no token of ours");
        assert_eq!(denied.code(), Code::Unauthenticated);
        node.shut_down().await;
    }
    assert_eq!(windows[0], windows[1], "the books were kept");
    Ok(())
}

#[tokio::test]
async fn the_command_lines_tokens_are_accepted_for_what_they_are() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let config = config(directory.path());
    let node = RunningNode::start(config.clone(), Roles::All).await?;
    let channel = channel(&node).await?;

    let viewer = token(
        &config,
        &["--role", "operator_viewer", "--scope", "settlement:read"],
    );
    open_window(&channel, &viewer).await?;
    let narrow = token(
        &config,
        &["--role", "operator_viewer", "--scope", "earn:write"],
    );
    let denied = open_window(&channel, &narrow).await.expect_err("narrowed");
    assert_eq!(denied.code(), Code::PermissionDenied);
    let partner = "ptr_01kaqz8x5ef0wrz5e3c2s6a7ct";
    let till = token(
        &config,
        &[
            "--role",
            "pos",
            "--partner",
            partner,
            "--terminal",
            "till-3",
        ],
    );
    let denied = open_window(&channel, &till)
        .await
        .expect_err("a till sees no windows");
    assert_eq!(denied.code(), Code::PermissionDenied);

    // A token of another network's key, or for another audience.
    let elsewhere = tempfile::tempdir()?;
    let foreign = Config {
        data_dir: elsewhere.path().to_owned(),
        ..config.clone()
    };
    let mut other_audience = config.clone();
    other_audience.auth.audience = "elsewhere".to_owned();
    for other in [foreign, other_audience] {
        let token = token(&other, &["--role", "operator_viewer"]);
        let denied = open_window(&channel, &token)
            .await
            .expect_err("not for this network");
        assert_eq!(denied.code(), Code::Unauthenticated);
    }
    node.shut_down().await;
    Ok(())
}

#[tokio::test]
async fn an_end_comes_soon_although_somebody_watches() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let node = RunningNode::start(config(directory.path()), Roles::All).await?;
    let mut client = HealthClient::new(channel(&node).await?);
    let mut told = client
        .watch(HealthCheckRequest::default())
        .await?
        .into_inner();
    let first = told.message().await?.context("a first message")?;
    assert_eq!(first.status(), ServingStatus::Serving);

    let begun = Instant::now();
    timeout(SHUT_DOWN_MAX, node.shut_down())
        .await
        .context("it does not end")?;
    // Far below the time that calls in hand are given: the watch was ended, not waited for.
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    Ok(())
}

#[tokio::test]
async fn a_gateway_of_its_own_starts_before_its_services_and_says_so() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let mut config = config(directory.path());
    let viewer = token(&config, &["--role", "operator_viewer"]);
    // Nobody listens there: it was ours a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    for upstream in [
        &mut config.upstreams.earn,
        &mut config.upstreams.redeem,
        &mut config.upstreams.settlement,
        &mut config.upstreams.network,
    ] {
        *upstream = vec![format!("http://{free}")];
    }
    let node = RunningNode::start(config, Roles::Gateway).await?;
    let channel = channel(&node).await?;
    let health = HealthClient::new(channel.clone())
        .check(HealthCheckRequest::default())
        .await?;
    assert_eq!(health.into_inner().status(), ServingStatus::NotServing);
    let refused = open_window(&channel, &viewer)
        .await
        .expect_err("nobody is there");
    assert_eq!(refused.code(), Code::Unavailable);
    node.shut_down().await;
    Ok(())
}

#[tokio::test]
async fn an_upstream_that_is_no_address_is_named() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let mut config = config(directory.path());
    config.upstreams.redeem = vec!["127.0.0.1:7402".to_owned()];
    let refused = RunningNode::start(config, Roles::Gateway)
        .await
        .expect_err("no address");
    assert!(
        format!("{refused:#}").contains("upstreams.redeem"),
        "{refused:#}"
    );
    Ok(())
}

#[tokio::test]
async fn keys_that_others_can_read_are_refused() -> anyhow::Result<()> {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir()?;
    let config = config(directory.path());
    RunningNode::start(config.clone(), Roles::All)
        .await?
        .shut_down()
        .await;
    let key = directory.path().join("identifier.key");
    fs::set_permissions(&key, Permissions::from_mode(0o644))?;
    let refused = RunningNode::start(config, Roles::All)
        .await
        .expect_err("exposed");
    assert!(format!("{refused:#}").contains("chmod 600"), "{refused:#}");
    Ok(())
}
