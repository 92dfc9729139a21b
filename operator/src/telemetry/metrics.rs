//! Numbers for Prometheus.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::{Method, StatusCode};
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::crd::Phase;
use crate::error_class::ErrorClass;
use crate::watch::ClusterRef;

/// How a reconcile ended.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelValue)]
enum ReconcileResult {
    Success,
    Error,
}

/// What is counted.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    reconciles: Family<ResultLabel, Counter>,
    errors: Family<ClassLabel, Counter>,
    duration: Histogram,
    queue_depth: Gauge,
    clusters: Family<PhaseLabel, Gauge>,
    writes: Family<WriteLabels, Counter>,
    is_leader: Gauge,
    known: Mutex<Known>,
}

/// What a gauge of ShardClusters is made of.
#[derive(Debug, Default)]
struct Known {
    queued: HashSet<ClusterRef>,
    phases: HashMap<ClusterRef, Phase>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabel {
    result: ReconcileResult,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ClassLabel {
    class: ErrorClass,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PhaseLabel {
    phase: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WriteLabels {
    method: String,
    code: String,
}

const PHASES: [Phase; 7] = [
    Phase::Pending,
    Phase::Downloading,
    Phase::Loading,
    Phase::Running,
    Phase::Degraded,
    Phase::Suspended,
    Phase::Failed,
];

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("shardcluster_operator");
        registry.register("build", "The program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let reconciles = Family::default();
        registry.register("reconciles", "Reconciles by how they ended", reconciles.clone());
        let errors = Family::default();
        registry.register("reconcile_errors", "Reconciles that failed, by class of error", errors.clone());
        // 1 ms to 65 s.
        let duration = Histogram::new(exponential_buckets(0.001, 2.0, 17));
        registry.register("reconcile_duration_seconds", "How long reconciles take", duration.clone());
        let queue_depth = Gauge::default();
        registry.register(
            "queue_depth",
            "ShardClusters with news that no reconcile has taken up",
            queue_depth.clone(),
        );
        let clusters = Family::default();
        registry.register("shardclusters", "ShardClusters by phase, at the leader", clusters.clone());
        let writes = Family::default();
        registry.register(
            "writes",
            "Requests to the API server that change something, by method and code of the answer",
            writes.clone(),
        );
        let is_leader = Gauge::default();
        registry.register("is_leader", "1 where this operator leads, 0 where it waits", is_leader.clone());
        let known = Mutex::default();
        let inner =
            Inner { registry, reconciles, errors, duration, queue_depth, clusters, writes, is_leader, known };
        inner.show_zeros();
        Self(Arc::new(inner))
    }
}

impl Inner {
    /// A rate needs the zero before the one.
    fn show_zeros(&self) {
        for result in [ReconcileResult::Success, ReconcileResult::Error] {
            drop(self.reconciles.get_or_create(&ResultLabel { result }));
        }
        for class in [ErrorClass::Conflict, ErrorClass::Refused, ErrorClass::Api, ErrorClass::Internal] {
            drop(self.errors.get_or_create(&ClassLabel { class }));
        }
        for phase in PHASES {
            drop(self.clusters.get_or_create(&PhaseLabel { phase: word(phase) }));
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cluster(&self, phase: Phase) -> Gauge {
        self.clusters.get_or_create_owned(&PhaseLabel { phase: word(phase) })
    }

    fn show_queue(&self, known: &Known) {
        self.queue_depth.set(i64::try_from(known.queued.len()).unwrap_or(i64::MAX));
    }
}

impl Metrics {
    /// There is news of a ShardCluster.
    pub fn queued(&self, cluster: ClusterRef) {
        let mut known = self.0.known();
        known.queued.insert(cluster);
        self.0.show_queue(&known);
    }

    /// A reconcile takes the news up.
    pub fn started(&self, cluster: &ClusterRef) {
        let mut known = self.0.known();
        known.queued.remove(cluster);
        self.0.show_queue(&known);
    }

    /// A reconcile ended, well or not.
    pub fn reconciled(&self, well: bool, duration: Duration) {
        let result = if well { ReconcileResult::Success } else { ReconcileResult::Error };
        self.0.reconciles.get_or_create(&ResultLabel { result }).inc();
        self.0.duration.observe(duration.as_secs_f64());
    }

    /// Why it ended so.
    pub fn failed(&self, class: ErrorClass) {
        self.0.errors.get_or_create(&ClassLabel { class }).inc();
    }

    /// How a ShardCluster is.
    pub fn phase(&self, cluster: ClusterRef, phase: Option<Phase>) {
        let Some(phase) = phase else { return };
        let mut known = self.0.known();
        let old = known.phases.insert(cluster, phase);
        if old != Some(phase) {
            if let Some(old) = old {
                self.0.cluster(old).dec();
            }
            self.0.cluster(phase).inc();
        }
    }

    /// A ShardCluster is gone.
    pub fn forget(&self, cluster: &ClusterRef) {
        let mut known = self.0.known();
        known.queued.remove(cluster);
        self.0.show_queue(&known);
        if let Some(phase) = known.phases.remove(cluster) {
            self.0.cluster(phase).dec();
        }
    }

    /// A write was answered, or was not.
    pub(super) fn wrote(&self, method: &Method, code: Option<StatusCode>) {
        let code = code.map_or_else(|| "none".to_owned(), |code| code.as_str().to_owned());
        self.0.writes.get_or_create(&WriteLabels { method: method.to_string(), code }).inc();
    }

    /// A leader knows of all ShardClusters, one that waits of none.
    pub(super) fn leads(&self, leads: bool) {
        if self.0.is_leader.set(leads.into()) != i64::from(leads) {
            let mut known = self.0.known();
            *known = Known::default();
            self.0.show_queue(&known);
            for phase in PHASES {
                self.0.cluster(phase).set(0);
            }
        }
    }

    /// In the text format of OpenMetrics.
    ///
    /// # Errors
    /// Where a metric cannot be written as text, which is a fault of this program.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.0.registry)?;
        Ok(text)
    }
}

fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Pending => "Pending",
        Phase::Downloading => "Downloading",
        Phase::Loading => "Loading",
        Phase::Running => "Running",
        Phase::Degraded => "Degraded",
        Phase::Suspended => "Suspended",
        Phase::Failed => "Failed",
    }
}

#[cfg(test)]
mod tests;
