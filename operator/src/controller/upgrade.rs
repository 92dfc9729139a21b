//! Whose turn it is to go over to a newer node image: one ShardCluster after the other, so that an image that does not
//! work ends there. Pure, but for the lock; the time is the caller's.
//!
//! ```text
//!  its pipeline was     goes                  is through when
//!  complete             when it is its turn   its pods have moved, and its pipeline is complete again
//!  unknown              when it is its turn   its pods have moved, or wait for a gateway: whether it serves nobody can say
//!  not complete         at once               it has nothing to lose, and holds up nobody: it may never be complete
//! ```

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use tokio::time::Instant;

use crate::crd::{ShardCluster, ShardClusterStatus, condition};
use crate::desired::meta::template_hash;
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
    holder: Mutex<Option<Holder>>,
}

#[derive(Debug)]
struct Holder {
    cluster: ClusterRef,
    stake: Stake,
}

/// What a ShardCluster may lose by a new image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stake {
    /// A complete pipeline.
    Pipeline,
    /// Nobody knows.
    Unknown,
    /// No pipeline is there.
    Nothing,
}

impl Turn {
    /// Of an operator that begins to work now.
    pub(super) fn new(began: Instant) -> Self {
        Self { began, holder: Mutex::default() }
    }

    /// Whether a ShardCluster may go over now.
    pub(super) fn take(&self, cluster: &ClusterRef, stake: Stake, now: Instant) -> bool {
        if stake == Stake::Nothing {
            return true;
        }
        let mut holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner);
        if holder.is_none() && now >= self.began + FIRST {
            *holder = Some(Holder { cluster: cluster.clone(), stake });
        }
        holder.as_ref().is_some_and(|holder| holder.cluster == *cluster)
    }

    /// It is on its way: since before this operator began, or because a user has changed it.
    pub(super) fn hold(&self, cluster: &ClusterRef, stake: Stake) {
        if stake != Stake::Nothing {
            let mut holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner);
            holder.get_or_insert_with(|| Holder { cluster: cluster.clone(), stake });
        }
    }

    /// Its pods have moved. One whose pipeline was complete keeps the turn until it is so again.
    pub(super) fn moved(&self, cluster: &ClusterRef, complete: bool) {
        self.give_back(cluster, |holder| complete || holder.stake != Stake::Pipeline);
    }

    /// It is gone, or cannot begin.
    pub(super) fn release(&self, cluster: &ClusterRef) {
        self.give_back(cluster, |_| true);
    }

    fn give_back(&self, cluster: &ClusterRef, is_through: impl FnOnce(&Holder) -> bool) {
        let mut holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner);
        holder.take_if(|holder| holder.cluster == *cluster && is_through(holder));
    }
}

/// Whether a ShardCluster runs another image than the release's, and follows it.
pub(super) fn is_due(resource: &ShardCluster, settings: &Settings) -> bool {
    let in_use = resource.status.as_ref().and_then(|status| status.image.as_ref());
    settings.auto_upgrade
        && resource.spec.image.is_none()
        && in_use.is_some_and(|in_use| *in_use != settings.node_image)
}

/// What a ShardCluster may lose, by its last status: a pipeline that was complete when its pods began to move.
pub(super) fn stake(status: Option<&ShardClusterStatus>, began: Option<Timestamp>) -> Stake {
    let mut conditions = status.iter().flat_map(|status| &status.conditions);
    let Some(proof) = conditions.find(|one| one.type_ == condition::PIPELINE_COMPLETE) else {
        return Stake::Nothing;
    };
    match &*proof.status {
        "True" => Stake::Pipeline,
        "False" if began.is_some_and(|began| proof.last_transition_time.0 >= began) => Stake::Pipeline,
        "False" => Stake::Nothing,
        _ => Stake::Unknown,
    }
}

/// When the pods of a ShardCluster began to move: the bootstrap's goes first. `None` before that.
pub(super) fn began(pods: &[Pod], bootstrap: &StatefulSet) -> Option<Timestamp> {
    let wanted = template_hash(bootstrap.spec.as_ref()?.template.metadata.as_ref()?)?;
    let name = format!("{}-0", bootstrap.name_any());
    let pod = pods.iter().find(|pod| pod.name_any() == name)?;
    (template_hash(&pod.metadata)? == wanted).then_some(pod.metadata.creation_timestamp.as_ref()?.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::desired::meta::TEMPLATE_HASH;

    fn named(name: &str) -> ClusterRef {
        ClusterRef::new(name).within("n")
    }

    #[test]
    fn one_after_the_other_and_none_before_all_have_been_looked_at() {
        let began = Instant::now();
        let later = began + FIRST;
        let (a, b) = (named("a"), named("b"));
        let turn = Turn::new(began);
        let takes = |who: &ClusterRef, now| turn.take(who, Stake::Pipeline, now);
        assert!(!takes(&a, began), "b may be in the middle of it");
        turn.hold(&b, Stake::Pipeline);
        assert!(!takes(&a, later));
        assert!(takes(&b, later));
        turn.release(&a);
        assert!(!takes(&a, later), "what a has not, it cannot give back");
        turn.moved(&b, false);
        assert!(!takes(&a, later), "the new image may be why b does not serve");
        turn.moved(&b, true);
        assert!(takes(&a, later));
        turn.hold(&b, Stake::Pipeline);
        assert!(takes(&a, later) && !takes(&b, later));
    }

    #[test]
    fn who_never_serves_holds_up_nobody() {
        let began = Instant::now();
        let later = began + FIRST;
        let (a, b, c) = (named("a"), named("b"), named("c"));
        let turn = Turn::new(began);
        assert!(turn.take(&a, Stake::Nothing, began));
        turn.hold(&a, Stake::Nothing);
        assert!(turn.take(&b, Stake::Unknown, later));
        assert!(!turn.take(&c, Stake::Pipeline, later) && turn.take(&a, Stake::Nothing, later));
        turn.moved(&b, false);
        assert!(turn.take(&c, Stake::Pipeline, later));
    }

    #[test]
    fn what_may_be_lost_is_told_by_the_last_status() {
        let at = |second| Timestamp::from_second(second).ok();
        let table = [
            ("True", None, Stake::Pipeline),
            ("False", None, Stake::Nothing),
            ("Unknown", None, Stake::Unknown),
            ("True", at(1), Stake::Pipeline),
            ("False", at(100), Stake::Pipeline),
            ("False", at(101), Stake::Nothing),
        ];
        for (holds, began, expected) in table {
            let status: ShardClusterStatus = serde_json::from_value(json!({"conditions": [{
                "type": "PipelineComplete", "status": holds, "reason": "R", "message": "",
                "lastTransitionTime": at(100).unwrap().to_string(),
            }]}))
            .unwrap();
            assert_eq!(stake(Some(&status), began), expected, "{holds} {began:?}");
        }
        assert_eq!(stake(None, None), Stake::Nothing);
    }

    #[test]
    fn pods_begin_to_move_with_the_bootstrap() {
        let marked = |hash: &str| json!({"annotations": {TEMPLATE_HASH: hash}});
        let set: StatefulSet = serde_json::from_value(json!({
            "metadata": {"name": "a-bootstrap"},
            "spec": {"selector": {}, "serviceName": "a", "template": {"metadata": marked("new")}},
        }))
        .unwrap();
        let since = |name: &str, hash: &str| {
            let mut metadata = marked(hash);
            metadata["name"] = name.into();
            metadata["creationTimestamp"] = "1970-01-01T00:00:07Z".into();
            let pod: Pod = serde_json::from_value(json!({"metadata": metadata})).unwrap();
            began(&[pod], &set).map(Timestamp::as_second)
        };
        assert_eq!(since("a-bootstrap-0", "new"), Some(7));
        assert_eq!(since("a-bootstrap-0", "old"), None);
        assert_eq!(since("a-shard-0-0", "new"), None);
    }
}
