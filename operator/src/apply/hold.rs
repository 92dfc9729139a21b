//! What a rollout holds on to, and what holds it up.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, Preconditions};

use super::{ApplyError, Writer};
use crate::rollout::Held;

impl Writer<'_> {
    /// Keeps what is not to be touched, and deletes stuck pods: their StatefulSet makes them anew from its template.
    pub(super) async fn hold(&mut self, held: &Held) -> Result<(), ApplyError> {
        for name in &held.sets {
            self.keep::<StatefulSet>(name);
            self.keep::<Service>(name);
            self.keep::<PodDisruptionBudget>(name);
        }
        for pod in &held.stuck {
            let same = Preconditions { uid: pod.uid.clone(), resource_version: pod.version.clone() };
            match self
                .api::<Pod>(&pod.name)?
                .delete(&pod.name, &DeleteParams::default().preconditions(same))
                .await
            {
                Ok(_) => self.applied.writes += 1,
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                // A conflict, too: it may have become ready, or be another one by now. It is looked at again.
                Err(source) => return Err(self.failed::<Pod>("replace", &pod.name)(source)),
            }
        }
        Ok(())
    }
}
