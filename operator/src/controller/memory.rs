//! What one reconcile of a ShardCluster leaves for the next. All of it may be lost with the process.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::ResourceExt;
use tokio::time::Instant;

use super::contest::{Contest, Contests};
use super::policy::BackOff;
use super::refusal::Refusal;
use crate::apply::Repair;
use crate::crd::ShardCluster;
use crate::watch::ClusterRef;

/// Of all ShardClusters.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<HashMap<ClusterRef, Notes>>);

/// Of one.
#[derive(Debug, Default)]
struct Notes {
    /// Failures in a row.
    failures: u32,
    /// Of the last of them, where news has to wait.
    back_off: Option<BackOff>,
    /// A write, while the rest goes on.
    refusal: Option<Refusal>,
    /// Children that others write over.
    contests: Contests,
    written: Option<Written>,
}

/// The last status that was written.
#[derive(Clone, Debug)]
struct Written {
    /// The resource's, with it.
    version: Option<String>,
    at: Instant,
}

impl Memory {
    /// Counts a failure, and says how many there are in a row.
    pub(super) fn failed(&self, cluster: &ClusterRef) -> u32 {
        let mut all = self.lock();
        let notes = all.entry(cluster.clone()).or_default();
        notes.failures = notes.failures.saturating_add(1);
        notes.failures
    }

    pub(super) fn succeeded(&self, cluster: &ClusterRef) {
        if let Some(notes) = self.lock().get_mut(cluster) {
            (notes.failures, notes.back_off) = (0, None);
        }
    }

    /// News waits so from now on, or not at all.
    pub(super) fn waits(&self, cluster: &ClusterRef, back_off: Option<BackOff>) {
        self.lock().entry(cluster.clone()).or_default().back_off = back_off;
    }

    /// How much longer a spec of this generation is not to be tried, if so.
    pub(super) fn rest(&self, cluster: &ClusterRef, generation: Option<i64>) -> Option<Duration> {
        self.lock().get(cluster)?.back_off?.rest(generation, Instant::now())
    }

    /// What was refused when it was last written.
    pub(super) fn refusal(&self, cluster: &ClusterRef) -> Option<Refusal> {
        self.lock().get(cluster)?.refusal.clone()
    }

    /// This is refused, or nothing is.
    pub(super) fn refused(&self, cluster: &ClusterRef, refusal: Option<Refusal>) {
        self.lock().entry(cluster.clone()).or_default().refusal = refusal;
    }

    /// What is not to be written again yet, because others write over it.
    pub(super) fn contested(&self, cluster: &ClusterRef) -> Vec<Repair> {
        self.lock().get(cluster).map(|notes| notes.contests.resting(Instant::now())).unwrap_or_default()
    }

    /// These children were written just now; the contest that comes of it, or goes on.
    pub(super) fn repaired(&self, cluster: &ClusterRef, repaired: &[Repair], jitter: f64) -> Option<Contest> {
        let (mut all, now) = (self.lock(), Instant::now());
        let contests = &mut all.entry(cluster.clone()).or_default().contests;
        contests.note(repaired, now, jitter);
        contests.current(now)
    }

    /// A status was written just now, and this came of it.
    pub(super) fn wrote(&self, resource: &ShardCluster) {
        let written = Written { version: resource.resource_version(), at: Instant::now() };
        self.lock().entry(ClusterRef::from_obj(resource)).or_default().written = Some(written);
    }

    /// When its status was last written.
    pub(super) fn last_write(&self, cluster: &ClusterRef) -> Option<Instant> {
        Some(self.lock().get(cluster)?.written.as_ref()?.at)
    }

    /// Whether a watch that tells of this version tells of nothing but what was written here.
    pub(super) fn is_echo(&self, cluster: &ClusterRef, version: Option<&str>) -> bool {
        let all = self.lock();
        let written = all.get(cluster).and_then(|notes| notes.written.as_ref());
        written.is_some_and(|written| version.is_some() && written.version.as_deref() == version)
    }

    /// The ShardCluster is gone.
    pub(super) fn forget(&self, cluster: &ClusterRef) {
        self.lock().remove(cluster);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClusterRef, Notes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
