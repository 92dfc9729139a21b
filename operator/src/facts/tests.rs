use serde_json::{Value, json};
use shard_wire::pipeline::{NextPlan, Origin};

use super::*;
use crate::crd::ShardCluster;
use crate::observe::Children;
use crate::settings::Settings;
use crate::validate::validate;

fn manifest(count: u32) -> ManifestSummary {
    let shard = |id| ManifestShard { shard_id: id, start: id, end: id + 1, ..ManifestShard::default() };
    ManifestSummary {
        layer_starts: (0..count).collect(),
        shards: (0..count).map(shard).collect(),
        ..ManifestSummary::default()
    }
}

/// A gateway that serves a plan of so many shards; the origin has made `origin`.
fn serves(plan: &str, count: u32, origin: &str) -> PipelineStatus {
    PipelineStatus {
        plan: plan.into(),
        total_layers: count,
        manifest: Some(manifest(count)),
        origin: Origin { plan: origin.into(), ..Origin::default() },
        ..PipelineStatus::default()
    }
}

fn and_next(pipeline: PipelineStatus, plan: &str, count: Option<u32>) -> PipelineStatus {
    let next = NextPlan {
        plan: plan.into(),
        total_layers: count.unwrap_or(0),
        manifest: count.map(manifest),
        ..NextPlan::default()
    };
    PipelineStatus { next_plan: Some(next), ..pipeline }
}

/// The origin is of another wire version than the gateway.
fn spoken(pipeline: PipelineStatus) -> PipelineStatus {
    let origin = Origin { wire_version: 2, ..pipeline.origin.clone() };
    PipelineStatus { wire_version: 1, origin, ..pipeline }
}

/// The plan of a spec of so many shards; the template is of `taken`, and the last status has `told`.
fn found(
    shards: u32,
    gateway: GatewayView,
    taken: Option<&str>,
    told: Option<(&str, u32)>,
) -> Option<String> {
    let status = told.map(|(id, count)| {
        let shards: Vec<Value> = (0..count)
            .map(|id| json!({"id": id, "layers": {"start": id, "end": id + 1}, "weightBytes": 1, "kvBytes": 1}))
            .collect();
        json!({
            "plan": {"id": id, "shards": shards},
            "model": {"totalLayers": count, "sha256": "", "sizeBytes": 1},
        })
    });
    let resource: ShardCluster = serde_json::from_value(json!({
        "apiVersion": "shardcluster.io/v1alpha1", "kind": "ShardCluster",
        "metadata": {"name": "tiny", "namespace": "llm", "uid": "1"},
        "spec": {"model": {"name": "m", "source": {"builtin": {}}}, "shards": {"count": shards}},
        "status": status,
    }))
    .unwrap();
    let set = |plan: &str| {
        serde_json::from_value(json!({
            "metadata": {"name": "tiny-shard-0"},
            "spec": {"selector": {}, "serviceName": "", "template": {"metadata": {"annotations": {PLAN: plan}}}},
        }))
        .unwrap()
    };
    let observed = Observed {
        children: Children { stateful_sets: taken.map(set).into_iter().collect(), ..Children::default() },
        gateway,
        ..Observed::nothing_of(resource)
    };
    let cluster = validate(&observed.resource, &Settings::example()).unwrap();
    let plan = plan(&cluster, &observed)?;
    assert_eq!(plan.shards.len(), shards as usize);
    Some(plan.name)
}

#[test]
fn the_plan_is_the_origins_and_stays_while_nobody_tells_of_another() {
    let answered = |pipeline| GatewayView::Answered(Box::new(pipeline));
    let silent = || GatewayView::Unreachable("no".into());
    let table = [
        ("the first one", 2, answered(serves("a", 2, "a")), None, None, Some("a")),
        ("none yet", 2, answered(PipelineStatus::default()), None, None, None),
        (
            "of an origin that does not say what it has",
            2,
            answered(serves("a", 2, "")),
            None,
            None,
            Some("a"),
        ),
        (
            "the next one",
            2,
            answered(and_next(serves("a", 2, "b"), "b", Some(2))),
            Some("a"),
            Some(("a", 2)),
            Some("b"),
        ),
        (
            "the next one is not known",
            2,
            answered(and_next(serves("a", 2, "b"), "b", None)),
            Some("a"),
            Some(("a", 2)),
            Some("a"),
        ),
        ("more shards", 3, answered(serves("a", 2, "a")), Some("a"), Some(("a", 2)), None),
        (
            "more shards, and known",
            3,
            answered(and_next(serves("a", 2, "b"), "b", Some(3))),
            Some("a"),
            Some(("a", 2)),
            Some("b"),
        ),
        (
            "taken, and the one before is served",
            2,
            answered(serves("a", 2, "")),
            Some("b"),
            Some(("b", 2)),
            Some("b"),
        ),
        ("back to the one before", 2, answered(serves("a", 2, "a")), Some("b"), Some(("b", 2)), Some("a")),
        (
            "the origin speaks otherwise",
            2,
            answered(spoken(serves("a", 2, ""))),
            Some("a"),
            Some(("a", 2)),
            None,
        ),
        (
            "it speaks otherwise, and its manifest is not known",
            2,
            answered(spoken(and_next(serves("a", 2, "b"), "b", None))),
            Some("a"),
            Some(("a", 2)),
            None,
        ),
        (
            "it speaks otherwise, and its manifest is known",
            2,
            answered(spoken(and_next(serves("a", 2, "b"), "b", Some(2)))),
            Some("a"),
            Some(("a", 2)),
            Some("b"),
        ),
        (
            "it speaks otherwise, and the gateway has just begun",
            2,
            answered(spoken(PipelineStatus::default())),
            Some("a"),
            Some(("a", 2)),
            None,
        ),
        (
            "it speaks otherwise, and its plan is taken",
            2,
            answered(spoken(serves("a", 2, ""))),
            Some("b"),
            Some(("b", 2)),
            Some("b"),
        ),
        (
            "it speaks otherwise, and nothing else is to be served",
            2,
            answered(spoken(serves("b", 2, "b"))),
            Some("b"),
            Some(("b", 2)),
            Some("b"),
        ),
        ("nobody answers", 2, silent(), Some("b"), Some(("b", 2)), Some("b")),
        ("nobody answers, and the status is older", 2, silent(), Some("b"), Some(("a", 2)), None),
        ("nobody has ever answered", 2, silent(), None, None, None),
    ];
    for (case, shards, gateway, taken, told, expected) in table {
        assert_eq!(found(shards, gateway, taken, told).as_deref(), expected, "{case}");
    }
}
