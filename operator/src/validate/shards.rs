//! Each shard with its overrides.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{SpecError, pod};
use crate::cluster::{Gpu, Shard};
use crate::crd::{GpuOverride, GpuSpec, Resources, ShardClusterSpec, ShardOverride};
use crate::quantity::thousandths;

/// The shards by id. `awake` is how many pods of so many there are: none, where the cluster is suspended.
pub(super) fn shards(
    spec: &ShardClusterSpec,
    image: &str,
    cuda_suffix: &str,
    awake: impl Fn(u32) -> u32,
) -> Result<Vec<Shard>, SpecError> {
    let count = spec.shards.count;
    let starts = spec.shards.layer_starts.len();
    if starts != 0 && starts != count as usize {
        return Err(SpecError::LayerStarts { starts, count });
    }
    let overrides: BTreeMap<u32, &ShardOverride> =
        spec.shards.overrides.iter().map(|own| (own.id, own)).collect();
    if let Some((&id, _)) = overrides.range(count..).next() {
        return Err(SpecError::NoSuchShard { id, count });
    }
    let none = ShardOverride::default();
    let shard = |id: u32| {
        let own = overrides.get(&id).copied().unwrap_or(&none);
        let gpu = gpu(spec.gpu.as_ref(), own.gpu.as_ref());
        let is_cuda = gpu.is_some() && spec.image.is_none();
        let resources = resources(&spec.resources, &own.resources);
        within_limits(id, &resources)?;
        Ok(Shard {
            id,
            replicas: awake(spec.shards.replicas.max(own.replicas.unwrap_or(0))),
            image: if is_cuda { with_suffix(image, cuda_suffix) } else { image.to_owned() },
            gpu,
            resources,
            pod: pod::merge(&[&spec.pod, &spec.shards.pod, &own.pod]),
        })
    };
    (0..count).map(shard).collect()
}

/// The definition's rules see each block by itself: an override may contradict what holds for all.
fn within_limits(id: u32, resources: &Resources) -> Result<(), SpecError> {
    let above = resources.requests.iter().find_map(|(resource, request)| {
        let limit = resources.limits.get(resource)?;
        (thousandths(request)? > thousandths(limit)?).then(|| SpecError::RequestAboveLimit {
            id,
            resource: resource.clone(),
            request: request.0.clone(),
            limit: limit.0.clone(),
        })
    });
    above.map_or(Ok(()), Err)
}

/// Nothing said is nothing; what an override leaves out is as for the others.
fn gpu(all: Option<&GpuSpec>, own: Option<&GpuOverride>) -> Option<Gpu> {
    if all.is_none() && own.is_none() {
        return None;
    }
    let all = all.cloned().unwrap_or_default();
    let own = own.cloned().unwrap_or_default();
    let count = own.count.unwrap_or(all.count);
    (count > 0).then(|| Gpu {
        resource: own.resource_name.unwrap_or(all.resource_name),
        count,
        node_selector: own.node_selector.unwrap_or(all.node_selector),
        tolerations: own.tolerations.unwrap_or(all.tolerations),
        runtime_class: own.runtime_class_name.or(all.runtime_class_name),
    })
}

/// Name by name, the narrower one wins.
fn resources(all: &Resources, own: &Resources) -> Resources {
    let merged = |all: &BTreeMap<String, Quantity>, own: &BTreeMap<String, Quantity>| {
        let mut merged = all.clone();
        merged.extend(own.clone());
        merged
    };
    Resources { requests: merged(&all.requests, &own.requests), limits: merged(&all.limits, &own.limits) }
}

/// `REPOSITORY:TAG` becomes `REPOSITORY:TAG-cuda`. A digest names one image and no other, so it stays.
fn with_suffix(image: &str, suffix: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    match (name.contains('@'), name.contains(':')) {
        (true, _) => image.to_owned(),
        (false, true) => format!("{image}{suffix}"),
        (false, false) => format!("{image}:latest{suffix}"),
    }
}

#[cfg(test)]
mod tests {
    use super::with_suffix;

    #[test]
    fn an_image_with_a_tag_has_a_variant() {
        for (image, cuda) in [
            ("host:5000/shardcluster/node:0.1.0", "host:5000/shardcluster/node:0.1.0-cuda"),
            ("host:5000/shardcluster/node", "host:5000/shardcluster/node:latest-cuda"),
            ("node:0.1.0@sha256:0123", "node:0.1.0@sha256:0123"),
        ] {
            assert_eq!(with_suffix(image, "-cuda"), cuda);
        }
    }
}
