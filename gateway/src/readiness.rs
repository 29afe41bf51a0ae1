//! Whether the services behind the gateway are ready, as the gateway's own health.
//!
//! Each service is watched over the health protocol through the same upstream that its calls take,
//! so that what is reported is what calls would find. The gateway as a whole, "", serves while every
//! service does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coalition_rpc::{Health, Upstream};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// Pause before a watch that ended is begun anew; doubles while it keeps failing, up to the limit.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Watches these services until `shutdown`, and keeps `health` up to date.
pub fn watch(upstreams: &BTreeMap<String, Upstream>, health: Health, shutdown: &CancellationToken) {
    let serving = upstreams
        .keys()
        .map(|service| (service.clone(), false))
        .collect();
    let board = Arc::new(Board {
        health,
        serving: Mutex::new(serving),
    });
    for (service, upstream) in upstreams {
        let watcher = Watcher {
            service: service.clone(),
            client: HealthClient::new(upstream.clone()),
            board: Arc::clone(&board),
        };
        let shutdown = shutdown.clone();
        tokio::spawn(async move { shutdown.run_until_cancelled(watcher.run()).await });
    }
}

/// What is known of all services.
struct Board {
    health: Health,
    serving: Mutex<BTreeMap<String, bool>>,
}

impl Board {
    async fn note(&self, service: &str, serving: bool) {
        // Held to the end, so that what is reported last is what was noted last.
        let mut all = self.serving.lock().await;
        if all.insert(service.to_owned(), serving) == Some(serving) {
            return;
        }
        tracing::info!(service, serving, "the health of a service has changed");
        self.health.set(service, serving).await;
        self.health
            .set("", all.values().all(|&serving| serving))
            .await;
    }
}

/// The watch over one service.
struct Watcher {
    service: String,
    client: HealthClient<Upstream>,
    board: Arc<Board>,
}

impl Watcher {
    async fn run(mut self) {
        let mut pause = PAUSE_MIN;
        loop {
            if self.follow().await {
                pause = PAUSE_MIN;
            } else {
                self.board.note(&self.service, false).await;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }

    /// Follows one watch to its end; true if it told anything and ended as streams do, by its
    /// deadline.
    async fn follow(&mut self) -> bool {
        let request = HealthCheckRequest {
            service: self.service.clone(),
        };
        let Ok(answer) = self.client.watch(request).await else {
            return false;
        };
        let mut statuses = answer.into_inner();
        let mut told = false;
        loop {
            match statuses.message().await {
                Ok(Some(status)) => {
                    told = true;
                    let serving = status.status() == ServingStatus::Serving;
                    self.board.note(&self.service, serving).await;
                }
                Ok(None) => return false,
                Err(status) => return told && status.code() == tonic::Code::DeadlineExceeded,
            }
        }
    }
}
