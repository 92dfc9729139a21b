//! Names, labels and owners.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{RollingUpdateStatefulSetStrategy, StatefulSetUpdateStrategy};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use shard_wire::contract::BOOTSTRAP_PORT;

use crate::cluster::Cluster;
use crate::digest;

/// Labels by key.
pub(crate) type Labels = BTreeMap<String, String>;

pub(crate) const NAME: &str = "app.kubernetes.io/name";
pub(crate) const INSTANCE: &str = "app.kubernetes.io/instance";
pub(crate) const COMPONENT: &str = "app.kubernetes.io/component";
pub(crate) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Who keeps all children.
pub(crate) const MANAGER: &str = "shardcluster-operator";
pub(crate) const SHARD: &str = "shardcluster.io/shard";
/// Annotation of pods: the plan that they were made for.
pub(crate) const PLAN: &str = "shardcluster.io/plan";
/// Annotation of pods: the template that they were made from.
pub(crate) const TEMPLATE_HASH: &str = "shardcluster.io/template-hash";

/// What all pods are pods of.
pub(crate) const PRODUCT: &str = "shardcluster";

/// What a pod is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The entry and origin.
    Bootstrap,
    /// A part of the model.
    Shard(u32),
    /// All of these.
    Shards,
    /// The API.
    Gateway,
}

impl Part {
    /// Of the workload, and of what stands beside it.
    pub(crate) fn name(self, cluster: &Cluster) -> String {
        let name = &cluster.name;
        match self {
            Self::Bootstrap => format!("{name}-bootstrap"),
            Self::Shard(id) => format!("{name}-shard-{id}"),
            Self::Shards => format!("{name}-shard"),
            Self::Gateway => format!("{name}-gateway"),
        }
    }

    /// Whether a pod is of it, of whichever shard.
    pub(crate) fn has(self, pod: &Pod) -> bool {
        let labels = pod.metadata.labels.as_ref();
        labels.and_then(|labels| labels.get(COMPONENT)).is_some_and(|part| part == self.component())
    }

    pub(crate) fn component(self) -> &'static str {
        match self {
            Self::Bootstrap => "bootstrap",
            Self::Shard(_) | Self::Shards => "shard",
            Self::Gateway => "gateway",
        }
    }

    /// What its pods have and no others.
    pub(crate) fn selector(self, cluster: &Cluster) -> Labels {
        let mut labels = members(cluster);
        labels.insert(COMPONENT.into(), self.component().into());
        if let Self::Shard(id) = self {
            labels.insert(SHARD.into(), id.to_string());
        }
        labels
    }

    /// What its objects have.
    pub(crate) fn labels(self, cluster: &Cluster) -> Labels {
        managed(self.selector(cluster))
    }

    /// Of an object that is named after the workload.
    pub(crate) fn meta(self, cluster: &Cluster) -> ObjectMeta {
        meta(cluster, self.name(cluster), self.labels(cluster))
    }
}

/// What all pods of a cluster have and no others.
pub(crate) fn members(cluster: &Cluster) -> Labels {
    [(NAME.into(), PRODUCT.into()), (INSTANCE.into(), cluster.name.clone())].into()
}

/// With who keeps it.
pub(crate) fn managed(mut labels: Labels) -> Labels {
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    labels
}

/// A child's: it goes with the resource.
pub(crate) fn meta(cluster: &Cluster, name: String, labels: Labels) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(cluster.namespace.clone()),
        labels: Some(labels),
        owner_references: Some(vec![cluster.owner.clone()]),
        ..ObjectMeta::default()
    }
}

/// A template whose pods tell which plan and which template they are of.
pub(super) fn marked(mut template: PodTemplateSpec, plan: Option<&str>) -> PodTemplateSpec {
    if let Some(plan) = plan {
        annotate(&mut template, PLAN, plan.to_owned());
    }
    // By way of a value, whose keys are sorted: the order of fields is a library's affair, and may change with it.
    let text = serde_json::to_value(&template).map(|value| value.to_string()).unwrap_or_default();
    annotate(&mut template, TEMPLATE_HASH, digest::short(&text));
    template
}

/// The template that a pod was made from, or that marks itself so.
pub(crate) fn template_hash(meta: &ObjectMeta) -> Option<&str> {
    Some(meta.annotations.as_ref()?.get(TEMPLATE_HASH)?)
}

/// A marked template with another image.
pub(crate) fn with_image(mut template: PodTemplateSpec, image: &str) -> PodTemplateSpec {
    if let Some(metadata) = &mut template.metadata {
        let mut annotations = metadata.annotations.take().unwrap_or_default();
        annotations.remove(TEMPLATE_HASH);
        // As it was before it was marked: else the hash would be another one.
        metadata.annotations = Some(annotations).filter(|annotations| !annotations.is_empty());
    }
    if let Some(container) = template.spec.as_mut().and_then(|spec| spec.containers.first_mut()) {
        container.image = Some(image.to_owned());
    }
    marked(template, None)
}

fn annotate(template: &mut PodTemplateSpec, key: &str, value: String) {
    let metadata = template.metadata.get_or_insert_default();
    metadata.annotations.get_or_insert_default().insert(key.to_owned(), value);
}

/// Pods from this ordinal on get the new template, highest first and one at a time. API servers without the feature
/// `MaxUnavailableStatefulSet` drop that number, and one is what holds there.
pub(crate) fn from_ordinal(ordinal: u32) -> StatefulSetUpdateStrategy {
    StatefulSetUpdateStrategy {
        type_: Some("RollingUpdate".into()),
        rolling_update: Some(RollingUpdateStatefulSetStrategy {
            partition: i32::try_from(ordinal).ok(),
            max_unavailable: Some(IntOrString::Int(1)),
        }),
    }
}

/// Pods with these labels.
pub(crate) fn matching(labels: Labels) -> LabelSelector {
    LabelSelector { match_labels: Some(labels), ..LabelSelector::default() }
}

/// Of the Service that gives each bootstrap pod a name.
pub(crate) fn bootstrap_peers(cluster: &Cluster) -> String {
    format!("{}-peers", Part::Bootstrap.name(cluster))
}

/// HOST:PORT of each bootstrap pod. Each, because a bootstrap knows only who has dialled it.
pub(crate) fn entries(cluster: &Cluster) -> Vec<String> {
    let (pod, peers) = (Part::Bootstrap.name(cluster), bootstrap_peers(cluster));
    let namespace = &cluster.namespace;
    (0..cluster.bootstrap.entries)
        .map(|ordinal| format!("{pod}-{ordinal}.{peers}.{namespace}.svc:{BOOTSTRAP_PORT}"))
        .collect()
}
