//! The least that anybody would have to do: the same objects, written one after the other, as many at a time.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use serde_json::Value;
use shard_e2e::{ControlPlane, namespace};
use shard_operator::crd::ShardCluster;

use crate::fleet::{CONCURRENCY, define, name, resource};

/// Writes them for so many clusters: what names the first, or its owner, names each.
pub(crate) async fn write(plane: &ControlPlane, objects: &[Value], clusters: usize) -> Duration {
    let client = plane.client().await.unwrap();
    define(&client).await;
    let namespace = namespace(&client, "plain").await.unwrap();
    let resources = Api::<ShardCluster>::namespaced(client.clone(), &namespace);
    let create = |number| {
        let resources = resources.clone();
        async move { resources.create(&PostParams::default(), &resource(number)).await.unwrap().uid().unwrap() }
    };
    // In their order.
    let owners: Vec<String> = stream::iter(0..clusters).map(create).buffered(CONCURRENCY).collect().await;
    let owner = |object: &Value| Some(object["metadata"]["ownerReferences"][0]["uid"].as_str()?.to_owned());
    let first = objects.iter().find_map(owner).unwrap();

    let began = Instant::now();
    let (client, namespace) = (&client, &namespace);
    let (first, owners) = (&first, &owners);
    let cluster = |number: usize| async move {
        for object in objects {
            // A controller-manager takes away what belongs to nobody.
            let object = object.to_string().replace(&name(0), &name(number)).replace(first, &owners[number]);
            apply(client, namespace, &serde_json::from_str(&object).unwrap()).await;
        }
    };
    stream::iter(0..clusters).map(cluster).buffer_unordered(CONCURRENCY).count().await;
    began.elapsed()
}

async fn apply(client: &Client, namespace: &str, object: &Value) {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let (group, version) = version.split_once('/').unwrap_or(("", &version));
    let gvk = GroupVersionKind::gvk(group, version, &kind);
    let resource = match &*kind {
        "NetworkPolicy" => ApiResource::from_gvk_with_plural(&gvk, "networkpolicies"),
        _ => ApiResource::from_gvk(&gvk),
    };
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource);
    let (name, params) = (text(&object["metadata"]["name"]), PatchParams::apply("bench").force());
    let written = match &*kind {
        "ShardCluster" => api.patch_status(&name, &params, &Patch::Apply(object)).await,
        _ => api.patch(&name, &params, &Patch::Apply(object)).await,
    };
    written.unwrap();
}
