//! Whether a container lives, and whether it is of use.

use k8s_openapi::api::core::v1::{HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Of a container.
#[derive(Default)]
pub(super) struct Probes {
    pub(super) startup: Option<Probe>,
    pub(super) liveness: Option<Probe>,
    pub(super) readiness: Option<Probe>,
}

impl Probes {
    /// A program that answers as soon as it runs.
    pub(super) fn at_once(port: &str) -> Self {
        // Readiness is asked often: it is what the status of the resource is made from, within 2 seconds.
        Self {
            startup: None,
            liveness: Some(probe("/healthz", port, 10, 6)),
            readiness: Some(probe("/readyz", port, 2, 3)),
        }
    }

    /// A program that first verifies and loads what is in its folder, and answers then: up to an hour for the largest.
    pub(super) fn after_loading(port: &str) -> Self {
        Self { startup: Some(probe("/healthz", port, 2, 1800)), ..Self::at_once(port) }
    }
}

fn probe(path: &str, port: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String(port.into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        // The programs themselves give up after 2 seconds, and say why.
        timeout_seconds: Some(3),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}
