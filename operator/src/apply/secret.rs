//! Secrets are made once. What is in one is never written over: a user may rotate it, or bring it.

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use super::{ApplyError, Writer};
use crate::desired::meta::MANAGER;

impl Writer<'_> {
    /// Creates a Secret, or adds the entries that it lacks. Another writer in between is a conflict, and nothing is lost.
    pub(super) async fn secret(&mut self, desired: &Secret, held: Option<&Secret>) -> Result<(), ApplyError> {
        let name = desired.name_any();
        let Some(held) = held else {
            let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
            let api = self.api::<Secret>(&name)?;
            api.create(&params, desired).await.map_err(self.failed::<Secret>("create", &name))?;
            self.applied.writes += 1;
            return Ok(());
        };
        let mut missing = desired.data.clone().unwrap_or_default();
        missing.retain(|entry, _| held.data.as_ref().is_none_or(|data| !data.contains_key(entry)));
        if missing.is_empty() {
            return Ok(());
        }
        let patch = json!({
            "metadata": { "resourceVersion": held.resource_version(), "uid": held.uid() },
            "data": missing,
        });
        let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        let written = self.api::<Secret>(&name)?.patch(&name, &params, &Patch::Merge(&patch)).await;
        written.map_err(self.failed::<Secret>("add keys to", &name))?;
        self.applied.writes += 1;
        Ok(())
    }
}
