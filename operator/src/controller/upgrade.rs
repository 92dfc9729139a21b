//! Whose turn it is to go over to a newer node image: one ShardCluster after the other, so that an image that does not
//! work ends there. Pure, but for the lock; the time is the caller's.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::crd::ShardCluster;
use crate::settings::Settings;
use crate::watch::ClusterRef;

/// By then all ShardClusters have been looked at, and the one in the middle of it has its turn again.
const FIRST: Duration = Duration::from_secs(60);
/// Who has to wait asks again so often.
pub(super) const AGAIN: Duration = Duration::from_secs(15);

/// The turn.
#[derive(Debug)]
pub(super) struct Turn {
    began: Instant,
    holder: Mutex<Option<ClusterRef>>,
}

impl Turn {
    /// Of an operator that begins to work now.
    pub(super) fn new(began: Instant) -> Self {
        Self { began, holder: Mutex::default() }
    }

    /// Whether a ShardCluster may go over now.
    pub(super) fn take(&self, cluster: &ClusterRef, now: Instant) -> bool {
        let mut holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner);
        if holder.is_none() && now >= self.began + FIRST {
            *holder = Some(cluster.clone());
        }
        holder.as_ref() == Some(cluster)
    }

    /// It is on its way: since before this operator began, or because a user has changed it.
    pub(super) fn hold(&self, cluster: &ClusterRef) {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| cluster.clone());
    }

    /// It has arrived, or is gone.
    pub(super) fn release(&self, cluster: &ClusterRef) {
        let mut holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner);
        if holder.as_ref() == Some(cluster) {
            *holder = None;
        }
    }
}

/// Whether a ShardCluster runs another image than the release's, and follows it.
pub(super) fn is_due(resource: &ShardCluster, settings: &Settings) -> bool {
    let in_use = resource.status.as_ref().and_then(|status| status.image.as_ref());
    settings.auto_upgrade
        && resource.spec.image.is_none()
        && in_use.is_some_and(|in_use| *in_use != settings.node_image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_after_the_other_and_none_before_all_have_been_looked_at() {
        let began = Instant::now();
        let later = began + FIRST;
        let (a, b) = (ClusterRef::new("a").within("n"), ClusterRef::new("b").within("n"));
        let turn = Turn::new(began);
        assert!(!turn.take(&a, began), "b may be in the middle of it");
        turn.hold(&b);
        assert!(!turn.take(&a, later));
        assert!(turn.take(&b, later));
        turn.release(&a);
        assert!(!turn.take(&a, later), "what a has not, it cannot give back");
        turn.release(&b);
        assert!(turn.take(&a, later));
        turn.hold(&b);
        assert!(turn.take(&a, later) && !turn.take(&b, later));
    }
}
