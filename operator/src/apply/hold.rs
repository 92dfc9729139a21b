//! What a rollout holds on to, and what holds it up.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, Preconditions};
use serde_json::json;

use super::child::merge;
use super::{ApplyError, Writer};
use crate::desired::{Held, HeldSet, StuckPod};

impl Writer<'_> {
    /// Keeps what is not to be touched but for its number of pods, and deletes stuck pods: their StatefulSet makes them
    /// anew from its template.
    pub(super) async fn hold(&mut self, held: &Held, live: &[StatefulSet]) -> Result<(), ApplyError> {
        for set in &held.sets {
            self.keep::<StatefulSet>(&set.name);
            self.keep::<Service>(&set.name);
            self.keep::<PodDisruptionBudget>(&set.name);
            let done = self.scale(set, live).await;
            self.go_on(done)?;
        }
        for pod in &held.stuck {
            let done = self.replace(pod).await;
            self.go_on(done)?;
        }
        Ok(())
    }

    /// Nothing but the number: to apply the rest as well, it would have to be as it was applied then. The next apply under
    /// the same name takes the field over.
    async fn scale(&mut self, set: &HeldSet, live: &[StatefulSet]) -> Result<(), ApplyError> {
        let HeldSet { name, replicas } = set;
        let found = live.iter().find(|live| live.name_any() == *name);
        let Some(found) = found.filter(|live| live.metadata.deletion_timestamp.is_none()) else {
            return Ok(());
        };
        if found.spec.as_ref().and_then(|spec| spec.replicas) == i32::try_from(*replicas).ok() {
            return Ok(());
        }
        let patch = json!({"metadata": {"uid": found.uid()}, "spec": {"replicas": replicas}});
        let scaled = self.api::<StatefulSet>(name)?.patch(name, &merge(), &Patch::Merge(&patch)).await;
        self.shelves.stateful_sets.put(scaled.map_err(self.failed::<StatefulSet>("scale", name))?);
        self.applied.writes += 1;
        Ok(())
    }

    /// As it was seen: one that has become ready since, or is another by now, is a conflict, and is looked at again.
    async fn replace(&mut self, pod: &StuckPod) -> Result<(), ApplyError> {
        let StuckPod { name, uid, version } = pod;
        let seen = Preconditions { uid: uid.clone(), resource_version: version.clone() };
        let params = DeleteParams::default().preconditions(seen);
        self.delete::<Pod>("replace", name, &params).await
    }
}
