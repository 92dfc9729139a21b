//! The last write of a reconcile: the status, where it has changed.

use std::time::Duration;

use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource, ResourceExt};
use serde_json::json;
use thiserror::Error;

use super::memory::Memory;
use super::pace::{Pace, pace};
use crate::crd::{ShardCluster, ShardClusterStatus};
use crate::desired::meta::MANAGER;
use crate::watch::ClusterRef;

/// Why users see an old status.
#[derive(Debug, Error)]
pub enum WriteStatusError {
    /// The status cannot be written as JSON: a fault of this program.
    #[error("cannot put the status into JSON")]
    Json(#[source] serde_json::Error),
    /// The API server does not take it.
    #[error("cannot write the status of ShardCluster {namespace}/{name}")]
    Write {
        /// Of the resource.
        namespace: String,
        /// Of the resource.
        name: String,
        /// Why.
        source: kube::Error,
    },
}

/// Whole, by server-side apply: a field that is not set any more goes. On the version that it was made from: with
/// another writer in between it is a conflict, and no transition time is lost. What is only progress may have to wait:
/// then the time until it is due.
pub(super) async fn status(
    client: &Client,
    memory: &Memory,
    resource: &ShardCluster,
    status: &ShardClusterStatus,
) -> Result<Option<Duration>, WriteStatusError> {
    let age = memory.last_write(&ClusterRef::from_obj(resource)).map(|at| at.elapsed());
    match pace(resource.status.as_ref(), status, age) {
        Pace::Nothing => return Ok(None),
        Pace::Later(rest) => return Ok(Some(rest)),
        Pace::Now => {}
    }
    let (namespace, name) = (resource.namespace().unwrap_or_default(), resource.name_any());
    let patch = json!({
        "apiVersion": ShardCluster::api_version(&()),
        "kind": ShardCluster::kind(&()),
        "metadata": { "name": name, "uid": resource.uid(), "resourceVersion": resource.resource_version() },
        "status": serde_json::to_value(status).map_err(WriteStatusError::Json)?,
    });
    let api = Api::<ShardCluster>::namespaced(client.clone(), &namespace);
    let params = PatchParams::apply(MANAGER).force();
    let written = api.patch_status(&name, &params, &Patch::Apply(&patch)).await;
    let written = written.map_err(|source| WriteStatusError::Write { namespace, name, source })?;
    memory.wrote(&written);
    Ok(None)
}
