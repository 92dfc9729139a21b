//! From what a user wrote to a [`Cluster`]: defaults, blocks and overrides resolved, once. Pure.
//!
//! The API server has refused what the definition's rules refuse; what is asked here again are the few things without
//! which there is no [`Cluster`], because an object may be older than a rule.

mod pod;
mod shards;
mod source;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use thiserror::Error;

use crate::cluster::{Bootstrap, Cluster, Gateway, Model, Policy, Storage};
use crate::crd::{MAX_NAME, ShardCluster, ShardClusterSpec, StorageSpec};
use crate::settings::Settings;

/// Why there is no cluster: it waits for a change of the resource.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SpecError {
    /// No object of an API server.
    #[error("the ShardCluster has no metadata.{field}: it does not come from an API server")]
    Metadata {
        /// What is missing.
        field: &'static str,
    },
    /// Names of children would be too long, or none.
    #[error(
        "metadata.name '{name}' cannot be part of the names of Services: it needs 1 to {MAX_NAME} lower-case letters, digits and '-', and a letter at its beginning"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// No model, or two.
    #[error(
        "model.source has {found} of http, huggingFace, persistentVolumeClaim, image and builtin: it needs exactly one"
    )]
    Source {
        /// How many.
        found: usize,
    },
    /// A shard that is not there.
    #[error("shards.overrides names shard {id}: ids go from 0 to {last}", last = count.saturating_sub(1))]
    NoSuchShard {
        /// Its id.
        id: u32,
        /// Shards of the cluster.
        count: u32,
    },
    /// What a shard requests, put together from all that holds for it, is more than it may use.
    #[error(
        "shard {id} requests {request} of {resource} and is limited to {limit}: after shards.overrides a request may be at most its limit"
    )]
    RequestAboveLimit {
        /// The shard.
        id: u32,
        /// Of what.
        resource: String,
        /// As the user says.
        request: String,
        /// As the user says.
        limit: String,
    },
    /// Layers that do not fit the shards.
    #[error("shards.layerStarts has {starts} entries for {count} shards: it needs one per shard, or none")]
    LayerStarts {
        /// Entries.
        starts: usize,
        /// Shards of the cluster.
        count: u32,
    },
}

/// The cluster that a resource asks for.
///
/// # Errors
/// [`SpecError`], in words that the user understands.
pub fn validate(resource: &ShardCluster, settings: &Settings) -> Result<Cluster, SpecError> {
    let missing = |field| SpecError::Metadata { field };
    let meta = &resource.metadata;
    let name = meta.name.clone().ok_or(missing("name"))?;
    if !is_service_name(&name) {
        return Err(SpecError::Name { name });
    }
    let spec = &resource.spec;
    let suspended = spec.suspend || spec.shards.replicas == 0;
    let awake = |replicas: u32| if suspended { 0 } else { replicas };
    let image = image(resource, settings);
    let source = source::source(&spec.model.source)?;
    Ok(Cluster {
        namespace: meta.namespace.clone().ok_or(missing("namespace"))?,
        owner: owner(resource).ok_or(missing("uid"))?,
        cluster_name: spec.cluster_name.clone().unwrap_or_else(|| name.clone()),
        shards: shards::shards(spec, &image, &settings.cuda_suffix, awake)?,
        columns: awake(spec.shards.replicas),
        storage: storage(&spec.storage),
        retain_on_node_loss: spec.storage.retain_on_node_loss,
        bootstrap: Bootstrap {
            replicas: awake(spec.bootstrap.replicas),
            // Told of none, a node would dial its own machine.
            entries: spec.bootstrap.replicas.max(1),
            service: spec.bootstrap.service.clone(),
            storage: source.is_fetched().then(|| bootstrap_storage(spec)),
            resources: spec.bootstrap.resources.clone(),
            pod: pod::merge(&[&spec.pod, &spec.bootstrap.pod]),
        },
        gateway: Gateway {
            replicas: spec.gateway.replicas,
            service: spec.gateway.service.clone(),
            api_keys: spec.gateway.api_keys_secret_ref.as_ref().map(|secret| secret.name.clone()),
            resources: spec.gateway.resources.clone(),
            pod: pod::merge(&[&spec.pod, &spec.gateway.pod]),
        },
        model: Model {
            name: spec.model.name.clone(),
            total_layers: spec.model.total_layers,
            source,
            layer_starts: spec.shards.layer_starts.clone(),
        },
        transport: spec.transport,
        inference: spec.inference,
        refresh_interval: spec.refresh_interval_seconds,
        policy: spec.network_policy.enabled.then(|| Policy {
            external_peers: spec.network_policy.external_peers.clone(),
            clients: spec.gateway.allow_from.clone(),
            operator_namespace: settings.namespace.clone(),
            monitoring_namespaces: settings.monitoring_namespaces.clone(),
        }),
        surge: spec.rollout.surge,
        node_loss: spec.node_loss_seconds,
        suspended,
        name,
        image,
    })
}

/// As children name it: who deletes it in the foreground sees it until the last of them is gone.
fn owner(resource: &ShardCluster) -> Option<OwnerReference> {
    let owner = resource.controller_owner_ref(&())?;
    Some(OwnerReference { block_owner_deletion: Some(true), ..owner })
}

fn is_service_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=MAX_NAME).contains(&name.len())
        && name.chars().all(legal)
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
}

/// The user's image; else the one in use, which a newer operator leaves as it is; else the release's.
fn image(resource: &ShardCluster, settings: &Settings) -> String {
    let in_use = || resource.status.as_ref().and_then(|status| status.image.clone());
    let kept = || if settings.auto_upgrade { None } else { in_use() };
    resource.spec.image.clone().or_else(kept).unwrap_or_else(|| settings.node_image.clone())
}

fn storage(spec: &StorageSpec) -> Storage {
    let (size, class, retention) = (spec.size.clone(), spec.storage_class_name.clone(), spec.retention);
    if spec.empty_dir { Storage::EmptyDir { size } } else { Storage::Claim { size, class, retention } }
}

/// Where the bootstrap keeps the whole model: as the shards do, but for what the user says.
fn bootstrap_storage(spec: &ShardClusterSpec) -> Storage {
    let (own, shards) = (&spec.bootstrap.storage, &spec.storage);
    storage(&StorageSpec {
        size: own.size.clone().unwrap_or_else(|| shards.size.clone()),
        storage_class_name: own.storage_class_name.clone().or_else(|| shards.storage_class_name.clone()),
        empty_dir: own.empty_dir.unwrap_or(shards.empty_dir),
        retention: own.retention.unwrap_or(shards.retention),
        ..shards.clone()
    })
}

#[cfg(test)]
mod tests;
