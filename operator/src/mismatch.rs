//! How the model that the origin has differs from what the spec says of it: then no plan of it will ever be taken, and it
//! is for the user to change one of the two. Pure.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use shard_wire::pipeline::PipelineStatus;

use crate::cluster::Cluster;
use crate::desired::meta::template_hash;
use crate::observe::{GatewayView, Observed};
use crate::pods::is_ready;

/// In words; `None` where it does not differ, or nobody can say. `bootstrap` is the wanted one: what an origin says that
/// is to be replaced is of another spec.
#[must_use]
pub fn mismatch(cluster: &Cluster, observed: &Observed, bootstrap: &StatefulSet) -> Option<String> {
    let wanted = cluster.model.total_layers?;
    let GatewayView::Answered(pipeline) = &observed.gateway else { return None };
    let found =
        layers(pipeline).filter(|found| *found != wanted && is_heard(pipeline, observed, bootstrap))?;
    Some(format!(
        "the model has {found} layers, and model.totalLayers says {wanted}: correct it, or remove it, or name another model"
    ))
}

/// Of the model that the origin has made a plan of.
fn layers(pipeline: &PipelineStatus) -> Option<u32> {
    let origin = &pipeline.origin.plan;
    let (plan, layers) = match &pipeline.next_plan {
        Some(next) => (&next.plan, next.manifest.as_ref().map(|_| next.total_layers)),
        None => (&pipeline.plan, pipeline.manifest.as_ref().map(|_| pipeline.total_layers)),
    };
    layers.filter(|_| !origin.is_empty() && plan == origin)
}

/// A pod of the wanted template is ready, and none of another one is; and what the origin says is of one of them, where
/// gateways tell that.
fn is_heard(pipeline: &PipelineStatus, observed: &Observed, bootstrap: &StatefulSet) -> bool {
    let template = bootstrap.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref());
    let Some(wanted) = template.and_then(template_hash) else { return false };
    let prefix = format!("{}-", bootstrap.name_any());
    let pods = observed.pods.iter().filter(|pod| pod.name_any().starts_with(&prefix) && is_ready(pod));
    let ready: Vec<&Pod> = pods.collect();
    let is_told = |pod: &&Pod| pod.metadata.uid.as_ref() == Some(&pipeline.origin.incarnation);
    !ready.is_empty()
        && ready.iter().all(|pod| template_hash(&pod.metadata) == Some(wanted))
        && (pipeline.wire_version == 0 || ready.iter().any(is_told))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shard_wire::pipeline::{ManifestSummary, NextPlan, Origin};

    use super::*;
    use crate::desired::meta::TEMPLATE_HASH;
    use crate::settings::Settings;
    use crate::validate::validate;
    use crate::watch::as_kept;

    fn told(layers: u32) -> PipelineStatus {
        PipelineStatus {
            plan: "p".into(),
            total_layers: layers,
            manifest: Some(ManifestSummary::default()),
            origin: Origin { plan: "p".into(), ..Origin::default() },
            ..PipelineStatus::default()
        }
    }

    fn next(layers: u32, manifest: Option<ManifestSummary>) -> PipelineStatus {
        let next = NextPlan { plan: "q".into(), total_layers: layers, manifest, ..NextPlan::default() };
        let origin = Origin { plan: "q".into(), ..Origin::default() };
        PipelineStatus { next_plan: Some(next), origin, ..told(32) }
    }

    #[test]
    fn it_is_told_of_the_origins_model_and_of_no_other() {
        let known = Some(ManifestSummary::default);
        let manifest = || known.map(|make| make());
        let served = PipelineStatus { origin: Origin::default(), ..told(16) };
        let of_start = |uid: &str| {
            let origin = Origin { incarnation: uid.into(), ..told(16).origin };
            PipelineStatus { wire_version: 1, origin, ..told(16) }
        };
        // What the spec says, what a gateway does, the template of the ready pod, and whether they differ.
        let table = [
            (Some(32), told(16), "new", true),
            (Some(16), told(16), "new", false),
            (None, told(16), "new", false),
            (Some(32), told(16), "old", false),
            (Some(32), served, "new", false),
            (Some(32), next(16, manifest()), "new", true),
            (Some(16), next(16, manifest()), "new", false),
            (Some(32), next(0, None), "new", false),
            (Some(32), of_start("this"), "new", true),
            (Some(32), of_start("the one before"), "new", false),
            (Some(32), of_start(""), "new", false),
        ];
        for (layers, pipeline, template, expected) in table {
            let case = format!("{layers:?} {template} {pipeline:?}");
            let resource = serde_json::from_value(json!({
                "apiVersion": "shardcluster.io/v1alpha1", "kind": "ShardCluster",
                "metadata": {"name": "a", "namespace": "n", "uid": "1"},
                "spec": {"model": {"name": "m", "totalLayers": layers, "source": {"builtin": {}}}, "shards": {"count": 2}},
            }));
            let mut observed = Observed::nothing_of(resource.unwrap());
            let cluster = validate(&observed.resource, &Settings::example()).unwrap();
            observed.gateway = GatewayView::Answered(Box::new(pipeline));
            observed.pods = vec![as_kept(json!({
                "metadata": {"name": "a-bootstrap-0", "uid": "this", "annotations": {TEMPLATE_HASH: template}},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            }))];
            let bootstrap: StatefulSet = serde_json::from_value(json!({
                "metadata": {"name": "a-bootstrap"},
                "spec": {"selector": {}, "template": {"metadata": {"annotations": {TEMPLATE_HASH: "new"}}}},
            }))
            .unwrap();
            let found = mismatch(&cluster, &observed, &bootstrap);
            assert_eq!(found.is_some(), expected, "{case}");
            assert!(found.is_none_or(|why| why.contains("16 layers") && why.contains("says 32")), "{case}");
        }
    }
}
