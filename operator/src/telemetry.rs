//! What the operator tells of itself.
//!
//! ```text
//!  lead, controller, clients ─┬▶ metrics ─▶ http: /metrics
//!                             ├▶ health  ─▶ http: /healthz, /readyz
//!                             └▶ logs    ─▶ standard error
//! ```

mod health;
pub mod logs;
mod metrics;
mod writes;

pub use health::Health;
pub(crate) use health::NO_DEFINITION;
pub use metrics::Metrics;
pub use writes::CountWrites;

/// Handles of one process, cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    /// Numbers.
    pub metrics: Metrics,
    /// Whether it is well.
    pub health: Health,
}

impl Telemetry {
    /// A term as leader begins.
    pub(crate) fn leads(&self) {
        self.metrics.leads(true);
        self.health.leads();
    }

    /// Another leads, as far as is known.
    pub(crate) fn waits(&self, leader: Option<&str>) {
        self.metrics.leads(false);
        self.health.waits(leader);
    }
}
