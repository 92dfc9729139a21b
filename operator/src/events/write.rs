//! Events to the API server.

use std::time::Duration;

use k8s_openapi::api::events::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::{Client, Resource, ResourceExt};
use tokio::time::timeout;
use tracing::warn;

use super::{Event, Kind};
use crate::crd::ShardCluster;
use crate::desired::meta::MANAGER;
use crate::words::words;

/// A reconcile waits no longer for its news to be told.
const LIMIT: Duration = Duration::from_secs(5);

/// Writes Events about a resource. One that is refused, or not written in time, is lost: the status says the same.
pub async fn write(client: &Client, resource: &ShardCluster, events: &[Event]) {
    if events.is_empty() {
        return;
    }
    let (namespace, name) = (resource.namespace().unwrap_or_default(), resource.name_any());
    let api = Api::<v1::Event>::namespaced(client.clone(), &namespace);
    let all = async {
        for event in events {
            let object = object(resource, event, Timestamp::now());
            if let Err(error) = api.create(&PostParams::default(), &object).await {
                warn!(namespace, name, reason = event.reason, error = %words(&error), "an Event is lost");
            }
        }
    };
    if timeout(LIMIT, all).await.is_err() {
        warn!(namespace, name, "Events are lost: the API server does not take them in time");
    }
}

/// Not by kube's recorder, which puts those of one reason together, and the words of all but the first are lost.
fn object(resource: &ShardCluster, event: &Event, now: Timestamp) -> v1::Event {
    let kind = match event.kind {
        Kind::Normal => "Normal",
        Kind::Warning => "Warning",
    };
    let mut related = event.related.clone();
    if let Some(related) = &mut related {
        related.namespace = resource.namespace();
    }
    v1::Event {
        metadata: ObjectMeta {
            // kubectl shows them by name where they have no older times, and this name grows with time.
            name: Some(format!("{}.{:016x}", resource.name_any(), now.as_nanosecond())),
            namespace: resource.namespace(),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        regarding: Some(resource.object_ref(&())),
        related,
        type_: Some(kind.into()),
        reason: Some(event.reason.clone()),
        action: Some(event.action.into()),
        note: Some(event.note.clone()),
        reporting_controller: Some(MANAGER.into()),
        reporting_instance: Some(MANAGER.into()),
        ..v1::Event::default()
    }
}
