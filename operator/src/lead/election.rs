//! Who leads: what the lease says, and what this process may write into it. Pure.
//!
//! Nobody's clock is compared with another's. Who waits counts the lease's duration from when it first saw the lease as
//! it is; who leads counts the shorter [`TERM`] from before it sent what renewed it. Every write names the version that
//! it was made from, so of two that write at once one is refused.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::ObjectMeta;

/// Without a renewal in this time, others take the lease.
const DURATION_SECONDS: i32 = 12;
/// Without a renewal in this time, the leader writes no more. What it has sent has the rest of the duration to arrive.
pub(super) const TERM: Duration = Duration::from_secs(8);

/// The longest duration that is believed: nobody is to wait for years because a hand has written something into the lease.
const LONGEST_SECONDS: i32 = 300;

/// What this process knows of the lease.
#[derive(Debug)]
pub(super) struct Election {
    namespace: String,
    name: &'static str,
    identity: String,
    seen: Option<Lease>,
    /// Before this uptime it is, or may be, somebody else's.
    free_at: Duration,
}

/// What to do with the lease.
#[derive(Debug)]
pub(super) enum Step {
    /// It is somebody else's.
    Wait,
    /// It does not exist.
    Create(Lease),
    /// It is free, or ours.
    Replace(Lease),
}

impl Election {
    pub(super) fn new(namespace: String, name: &'static str, identity: String) -> Self {
        Self { namespace, name, identity, seen: None, free_at: Duration::ZERO }
    }

    /// Takes note of the lease, as it was at some time before `now`.
    pub(super) fn observe(&mut self, lease: Option<Lease>, now: Duration) {
        match lease.as_ref().map(holder) {
            // Who held it may have renewed it until it was deleted, and not know yet.
            None if self.seen.is_some() => self.free_at = now + duration(self.seen.as_ref()),
            None => {}
            Some(Some(holder)) if holder != self.identity => {
                let is_news = spec(self.seen.as_ref()) != spec(lease.as_ref());
                self.free_at = if is_news { now + duration(lease.as_ref()) } else { self.free_at };
            }
            Some(_) => self.free_at = now,
        }
        self.seen = lease;
    }

    /// Whether the lease was ours when we last saw it.
    pub(super) fn holds(&self) -> bool {
        self.holder() == Some(self.identity.as_str())
    }

    /// Whose the lease was when we last saw it.
    pub(super) fn holder(&self) -> Option<&str> {
        self.seen.as_ref().and_then(holder)
    }

    /// `wall` is the time that people read in the lease.
    pub(super) fn step(&self, now: Duration, wall: Timestamp) -> Step {
        if now < self.free_at {
            return Step::Wait;
        }
        let claimed = |lease: Lease| {
            let old = lease.spec.unwrap_or_default();
            let spec = if self.holds() { old } else { self.taken(&old, wall) };
            let spec = LeaseSpec {
                lease_duration_seconds: Some(DURATION_SECONDS),
                renew_time: Some(MicroTime(wall)),
                ..spec
            };
            Lease { spec: Some(spec), ..lease }
        };
        match self.seen.clone() {
            Some(lease) => Step::Replace(claimed(lease)),
            None => Step::Create(claimed(self.unclaimed())),
        }
    }

    /// What tells the others that they need not wait; `None` where the lease is not ours.
    pub(super) fn release(&self, wall: Timestamp) -> Option<Lease> {
        let lease = self.seen.clone().filter(|_| self.holds())?;
        let spec = LeaseSpec {
            holder_identity: None,
            renew_time: Some(MicroTime(wall)),
            ..lease.spec.unwrap_or_default()
        };
        Some(Lease { spec: Some(spec), ..lease })
    }

    fn taken(&self, old: &LeaseSpec, wall: Timestamp) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            acquire_time: Some(MicroTime(wall)),
            lease_transitions: Some(old.lease_transitions.map_or(0, |count| count.saturating_add(1))),
            ..old.clone()
        }
    }

    fn unclaimed(&self) -> Lease {
        let metadata = ObjectMeta {
            namespace: Some(self.namespace.clone()),
            name: Some(self.name.to_owned()),
            ..ObjectMeta::default()
        };
        Lease { metadata, spec: None }
    }
}

fn spec(lease: Option<&Lease>) -> Option<&LeaseSpec> {
    lease?.spec.as_ref()
}

fn holder(lease: &Lease) -> Option<&str> {
    spec(Some(lease))?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

/// What its holder has said; of one who has said nothing that makes sense, what we would.
fn duration(lease: Option<&Lease>) -> Duration {
    let said = spec(lease).and_then(|spec| spec.lease_duration_seconds).filter(|seconds| *seconds > 0);
    Duration::from_secs(said.unwrap_or(DURATION_SECONDS).min(LONGEST_SECONDS).unsigned_abs().into())
}

#[cfg(test)]
mod tests;
