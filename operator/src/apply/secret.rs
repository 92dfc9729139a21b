//! Secrets are made once. What is in one is never written over: a user may rotate it, or bring it.

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Patch, PostParams};
use serde_json::{Value, json};

use super::child::merge;
use super::{ApplyError, Writer};
use crate::desired::meta::MANAGER;
use crate::observe::{Ownership, ownership};

impl Writer<'_> {
    /// Creates a Secret, or adds the entries that it lacks. Another writer in between is a conflict, and nothing is lost.
    pub(super) async fn secret(&mut self, desired: &Secret, held: Option<&Secret>) -> Result<(), ApplyError> {
        let done = match held {
            Some(held) => self.complete(desired, held).await,
            None => self.create(desired).await,
        };
        self.go_on(done)
    }

    async fn create(&mut self, desired: &Secret) -> Result<(), ApplyError> {
        let name = desired.name_any();
        let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
        let created = self.api::<Secret>(&name)?.create(&params, desired).await;
        created.map_err(self.failed::<Secret>("create", &name))?;
        self.applied.writes += 1;
        Ok(())
    }

    async fn complete(&mut self, desired: &Secret, held: &Secret) -> Result<(), ApplyError> {
        let name = desired.name_any();
        let mut owners = held.owner_references().to_vec();
        let is_adopted = match ownership(held, self.owner) {
            Ownership::Former => return self.bury::<Secret>(&name, &held.metadata).await,
            Ownership::Others if owners.iter().any(|owner| owner.controller == Some(true)) => {
                return Err(self.not_ours::<Secret>(&name));
            }
            // No watch tells of its end.
            _ if held.metadata.deletion_timestamp.is_some() => {
                return self.bury::<Secret>(&name, &held.metadata).await;
            }
            Ownership::Orphan => true,
            // Without a controller and our labels a user has brought it, and keeps it.
            Ownership::Owned | Ownership::Others => false,
        };
        let mut missing = desired.data.clone().unwrap_or_default();
        missing.retain(|entry, _| held.data.as_ref().is_none_or(|data| !data.contains_key(entry)));
        if missing.is_empty() && !is_adopted {
            return Ok(());
        }
        let mut patch = json!({
            "metadata": { "resourceVersion": held.resource_version(), "uid": held.uid() },
            "data": missing,
        });
        if is_adopted {
            owners.push(self.owner.clone());
            patch["metadata"]["ownerReferences"] = json!(owners);
        }
        self.patch(&name, &patch).await
    }

    async fn patch(&mut self, name: &str, patch: &Value) -> Result<(), ApplyError> {
        let written = self.api::<Secret>(name)?.patch(name, &merge(), &Patch::Merge(patch)).await;
        written.map_err(self.failed::<Secret>("complete", name))?;
        self.applied.writes += 1;
        Ok(())
    }
}
