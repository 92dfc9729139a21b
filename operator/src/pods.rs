//! What a pod says of itself. Pure.

mod problem;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodCondition};
use kube::ResourceExt;

pub use problem::{Problem, problem};

/// Whether a pod serves: ready, and not on its way out.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && readiness(pod).is_some_and(|one| one.status == "True")
}

/// Whether its probe says that it serves.
pub(crate) fn readiness(pod: &Pod) -> Option<&PodCondition> {
    condition(pod, "Ready")
}

/// That it has got its node.
pub(crate) fn scheduled(pod: &Pod) -> Option<&PodCondition> {
    condition(pod, "PodScheduled").filter(|one| one.status == "True")
}

/// That no node is found for it.
pub(crate) fn unschedulable(pod: &Pod) -> Option<&PodCondition> {
    condition(pod, "PodScheduled")
        .filter(|one| one.status == "False" && one.reason.as_deref() == Some("Unschedulable"))
}

/// Claims of its own: those that its StatefulSet makes. A user's that it mounts is not ours to delete.
pub(crate) fn claims_of<'a>(
    pod: &'a Pod,
    claims: &'a [PersistentVolumeClaim],
) -> impl Iterator<Item = &'a PersistentVolumeClaim> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(move |volume| {
        let name = &volume.persistent_volume_claim.as_ref()?.claim_name;
        let own = *name == format!("{}-{}", volume.name, pod.name_any());
        claims.iter().find(|claim| own && claim.name_any() == *name)
    })
}

/// Whether somebody makes another pod when it is gone.
pub(crate) fn is_replaced(pod: &Pod) -> bool {
    let keeps = |kind: &str| matches!(kind, "StatefulSet" | "ReplicaSet");
    pod.owner_references().iter().any(|owner| owner.controller == Some(true) && keeps(&owner.kind))
}

/// It was deleted by force, and waits for somebody's finalizer.
pub(crate) fn is_forced(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some() && pod.metadata.deletion_grace_period_seconds == Some(0)
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    let mut conditions = pod.status.as_ref()?.conditions.iter().flatten();
    conditions.find(|one| one.type_ == kind)
}
