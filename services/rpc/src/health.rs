//! Health and reflection: what every process serves beside its own services.

use coalition_proto::FILE_DESCRIPTOR_SET;
use tokio_util::sync::CancellationToken;
use tonic::service::RoutesBuilder;
use tonic_health::ServingStatus;
use tonic_health::pb::FILE_DESCRIPTOR_SET as HEALTH_DESCRIPTOR_SET;
use tonic_health::server::{HealthReporter, health_reporter};

/// The name of the health service itself.
const HEALTH_SERVICE: &str = "grpc.health.v1.Health";

/// The health of a process: overall, which is the name "", and per service.
#[derive(Clone, Debug)]
pub struct Health {
    reporter: HealthReporter,
    services: Vec<String>,
}

impl Health {
    /// Adds the health service for these services, all of them not serving yet. With `shutdown`
    /// those who watch are told that it is over, and let go: a watch is a call in hand, and would
    /// hold a shutdown up for as long as it may.
    pub async fn add_to(
        routes: &mut RoutesBuilder,
        services: Vec<String>,
        shutdown: CancellationToken,
    ) -> Self {
        let (reporter, server) = health_reporter();
        routes.add_service(server);
        let health = Self { reporter, services };
        health.set_all(false).await;
        let mut ending = health.clone();
        tokio::spawn(async move {
            shutdown.cancelled().await;
            ending.end().await;
        });
        health
    }

    /// Says of everything here whether it serves: true once a process is ready, false when it is
    /// about to stop.
    pub async fn set_all(&self, serving: bool) {
        for service in &self.services {
            self.set(service, serving).await;
        }
        self.set("", serving).await;
    }

    /// Says of one service whether it serves; "" is the process as a whole.
    pub async fn set(&self, service: &str, serving: bool) {
        let status = if serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        self.reporter.set_service_status(service, status).await;
    }

    async fn end(&mut self) {
        self.set_all(false).await;
        for service in self.services.iter().map(String::as_str).chain([""]) {
            // Ends the watches; those who ask from now on are told the same.
            self.reporter.clear_service_status(service).await;
            self.reporter
                .set_service_status(service, ServingStatus::NotServing)
                .await;
        }
    }

    /// The services that are reported on, "" not among them.
    #[must_use]
    pub fn services(&self) -> &[String] {
        &self.services
    }
}

/// Adds reflection for these services, in both versions that clients speak.
///
/// # Errors
///
/// The descriptors that were built in do not decode, which a test rules out.
pub fn add_reflection(
    routes: &mut RoutesBuilder,
    services: &[String],
) -> Result<(), tonic_reflection::server::Error> {
    let configured = || {
        let builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(HEALTH_DESCRIPTOR_SET)
            // So that command line clients can show the details of an error.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            .with_service_name(HEALTH_SERVICE);
        services.iter().fold(builder, |builder, service| {
            builder.with_service_name(service)
        })
    };
    routes.add_service(configured().build_v1()?);
    // The command line clients that distributions package speak this one only.
    routes.add_service(configured().build_v1alpha()?);
    Ok(())
}
