use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::crd::{LayerRange, PlanShard};

/// A status as it is told in a table: a phase, conditions as "type status reason: message", and the id of a plan.
fn status(phase: Phase, conditions: &[&str], plan: Option<&str>) -> ShardClusterStatus {
    let condition = |text: &&str| {
        let (head, message) = text.split_once(": ").unwrap();
        let [type_, status, reason] =
            head.split(' ').map(str::to_owned).collect::<Vec<_>>().try_into().unwrap();
        Condition {
            type_,
            status,
            reason,
            message: message.into(),
            observed_generation: Some(1),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        }
    };
    let shard = |id| PlanShard { id, layers: LayerRange { start: id, end: id + 1 }, ..PlanShard::default() };
    let plan = plan.map(|id| PlanStatus {
        id: id.into(),
        shards: vec![shard(0), shard(1)],
        ..PlanStatus::default()
    });
    let conditions = conditions.iter().map(condition).collect();
    ShardClusterStatus { phase: Some(phase), conditions, plan, ..ShardClusterStatus::default() }
}

fn told(last: Option<&ShardClusterStatus>, next: &ShardClusterStatus) -> Vec<String> {
    let resource: ShardCluster = serde_json::from_value(json!({
        "apiVersion": "shardcluster.io/v1alpha1", "kind": "ShardCluster", "metadata": {"name": "a", "namespace": "n"},
        "spec": {"model": {"name": "m", "source": {"builtin": {}}}},
        "status": last,
    }))
    .unwrap();
    let events = of_change(&resource, next);
    events.into_iter().map(|one| format!("{:?} {}: {}", one.kind, one.reason, one.note)).collect()
}

#[test]
fn a_life_is_told_transition_by_transition() {
    use Phase::{Degraded, Downloading, Loading, Pending, Running, Suspended};
    let life: Vec<(ShardClusterStatus, Vec<&str>)> = vec![
        (
            status(
                Pending,
                &[
                    "BootstrapReady False NoPods: none yet",
                    "ModelAvailable Unknown GatewayUnreachable: nobody",
                    "ShardsReady False ManifestUnknown: 0 of 2",
                    "Ready False NoPods: no gateway",
                ],
                None,
            ),
            vec![],
        ),
        (
            status(
                Downloading,
                &[
                    "BootstrapReady True PodsReady: 1 of 1",
                    "ModelAvailable False Downloading: 40 %",
                    "ShardsReady False ManifestUnknown: 0 of 2",
                    "Ready False NotProven: no token",
                ],
                None,
            ),
            vec!["Normal BootstrapReady: 1 of 1"],
        ),
        (
            status(
                Loading,
                &[
                    "BootstrapReady True PodsReady: 1 of 1",
                    "ModelAvailable True ManifestKnown: known",
                    "ShardsReady False Unschedulable: fits no node",
                    "Ready False NotProven: no token",
                ],
                Some("p1"),
            ),
            vec![
                "Normal ModelAvailable: known",
                "Normal Planned: the model is cut into 2 shards of layers 0-1, 1-2",
                "Warning Unschedulable: fits no node",
            ],
        ),
        (
            status(
                Running,
                &[
                    "BootstrapReady True PodsReady: 1 of 1",
                    "ModelAvailable True ManifestKnown: known",
                    "ShardsReady True ShardsReady: 2 of 2",
                    "PipelineComplete True Complete: a token",
                    "Ready True Ready: the API answers",
                ],
                Some("p1"),
            ),
            vec![
                "Normal ShardsReady: 2 of 2",
                "Normal PipelineComplete: a token",
                "Normal Ready: the API answers",
                "Normal Running: every pod is ready, and the pipeline is complete",
            ],
        ),
        (
            status(
                Degraded,
                &[
                    "BootstrapReady True PodsReady: 1 of 1",
                    "ModelAvailable True ManifestKnown: known",
                    "ShardsReady False NodeLost: its node",
                    "PipelineComplete False ShardsMissing: layers 0-1",
                    "Ready False ShardsMissing: layers 0-1",
                ],
                Some("p1"),
            ),
            vec![
                "Warning NodeLost: its node",
                "Warning PipelineIncomplete: layers 0-1",
                "Warning Degraded: ShardsReady and PipelineComplete do not hold",
            ],
        ),
        (
            status(
                Suspended,
                &[
                    "BootstrapReady False Suspended: stopped",
                    "ModelAvailable True ManifestKnown: known",
                    "ShardsReady False Suspended: stopped",
                    "PipelineComplete False Suspended: stopped",
                    "Ready False Suspended: stopped",
                ],
                Some("p1"),
            ),
            vec!["Normal Suspended: everything but the gateway is stopped"],
        ),
        (
            status(
                Pending,
                &["ModelAvailable True ManifestKnown: known", "ShardsReady False NoPods: none yet"],
                Some("p2"),
            ),
            vec![
                "Normal PlanChanged: the model is cut anew, into 2 shards of layers 0-1, 1-2",
                "Normal Resumed: the ShardCluster is not suspended any more",
            ],
        ),
    ];
    let mut last = None;
    for (next, events) in &life {
        assert_eq!(told(last, next), *events);
        assert_eq!(told(Some(next), next), Vec::<String>::new(), "once");
        last = Some(next);
    }
}

#[test]
fn one_condition_from_one_word_to_another() {
    // Before, after, and what is told.
    let table = [
        ("", "Ready False InvalidSpec: bad", "Warning InvalidSpec: bad"),
        ("", "Ready True Ready: good", "Normal Ready: good"),
        ("Ready False InvalidSpec: bad", "Ready False InvalidSpec: worse", ""),
        ("Ready False Starting: x", "Ready False ApplyFailed: quota", "Warning ApplyFailed: quota"),
        ("ShardsReady False Starting: x", "ShardsReady False Downloading: 5 %", ""),
        ("ShardsReady False Downloading: 5 %", "ShardsReady False Downloading: 10 %", ""),
        (
            "ShardsReady False Downloading: 5 %",
            "ShardsReady False OutOfMemory: killed",
            "Warning OutOfMemory: killed",
        ),
        ("ShardsReady False OutOfMemory: killed", "ShardsReady False Starting: x", ""),
        ("ShardsReady True ShardsReady: 2", "ShardsReady False Starting: 1", "Warning ShardsNotReady: 1"),
        (
            "ShardsReady True ShardsReady: 2",
            "ShardsReady True VolumeNotResized: but",
            "Warning VolumeNotResized: but",
        ),
        ("ShardsReady True VolumeNotResized: but", "ShardsReady True ShardsReady: 2", ""),
        (
            "ShardsReady False Starting: 1",
            "ShardsReady True VolumeNotResized: but",
            "Warning VolumeNotResized: but",
        ),
        ("PipelineComplete True Complete: x", "PipelineComplete False Rolling: new", "Normal Rolling: new"),
        ("ShardsReady True ShardsReady: 2", "ShardsReady True Rolling: 2, pods", "Normal Rolling: 2, pods"),
        ("ShardsReady True Rolling: 2, pods", "ShardsReady True Rolling: 2, others", ""),
        ("ShardsReady True Rolling: 2, pods", "ShardsReady False Rolling: 1", "Normal Rolling: 1"),
        ("ShardsReady True Rolling: 2, pods", "ShardsReady True ShardsReady: 2", ""),
        ("ShardsReady False Starting: 0", "ShardsReady False Rolling: 0", ""),
        ("ShardsReady False Rolling: 0", "ShardsReady True Rolling: 2", "Normal ShardsReady: 2"),
        ("Ready True Ready: x", "Ready False FromTheFuture: y", "Warning FromTheFuture: y"),
        (
            "PipelineComplete False Rolling: new",
            "PipelineComplete True Complete: x",
            "Normal PipelineComplete: x",
        ),
        (
            "PipelineComplete True Complete: x",
            "PipelineComplete Unknown GatewayUnreachable: y",
            "Warning GatewayUnreachable: y",
        ),
        ("PipelineComplete Unknown GatewayUnreachable: y", "PipelineComplete False ShardsMissing: z", ""),
        ("Resilient True ReplicasApart: x", "Resilient False SingleReplica: y", "Warning NotResilient: y"),
        ("Resilient False SingleReplica: y", "Resilient False ReplicasShareNode: z", ""),
        ("GatewayReady True PodsReady: x", "GatewayReady False NoPods: y", "Warning GatewayNotReady: y"),
        ("BootstrapReady True PodsReady: x", "BootstrapReady False ImagePull: y", "Warning ImagePull: y"),
        (
            "BootstrapReady True PodsReady: x",
            "BootstrapReady False Starting: y",
            "Warning BootstrapNotReady: y",
        ),
    ];
    for (before, after, event) in table {
        let one = |text: &str| {
            let all: Vec<&str> = Some(text).filter(|text| !text.is_empty()).into_iter().collect();
            status(Phase::Loading, &all, None)
        };
        let events = told(Some(&one(before)), &one(after));
        assert_eq!(events.join("; "), event, "{before} -> {after}");
    }
}

#[test]
fn the_same_problem_in_other_words_is_news_when_the_spec_has_changed() {
    let last = status(Phase::Failed, &["Ready False InvalidSpec: bad"], None);
    let mut next = status(Phase::Failed, &["Ready False InvalidSpec: worse"], None);
    next.conditions[0].observed_generation = Some(2);
    assert_eq!(told(Some(&last), &next), ["Warning InvalidSpec: worse"]);
    next.conditions[0].message = "bad".into();
    assert_eq!(told(Some(&last), &next), Vec::<String>::new());
}

#[test]
fn a_failure_is_told_once_and_what_is_degraded_by_name() {
    let failed = status(Phase::Failed, &["Ready False InvalidSpec: bad"], None);
    assert_eq!(told(None, &failed), ["Warning InvalidSpec: bad"]);
    let table: [(&[&str], &str); 3] = [
        (&[], "the pipeline is complete, but not every pod is ready"),
        (&["GatewayReady False Starting: x", "Ready False Starting: x"], "GatewayReady does not hold"),
        (
            &[
                "BootstrapReady False Starting: x",
                "ShardsReady False Starting: y",
                "GatewayReady Unknown Starting: z",
            ],
            "BootstrapReady, ShardsReady and GatewayReady do not hold",
        ),
    ];
    for (conditions, note) in table {
        let events = told(None, &status(Phase::Degraded, conditions, None));
        assert_eq!(events, [format!("Warning Degraded: {note}")]);
    }
}

#[test]
fn notes_are_what_an_api_server_takes() {
    let long = format!("Ready False ApplyFailed: {}", "ä".repeat(600));
    let next = status(Phase::Pending, &[&long], None);
    let resource: ShardCluster = serde_json::from_value(json!({
        "apiVersion": "shardcluster.io/v1alpha1", "kind": "ShardCluster", "metadata": {"name": "a"},
        "spec": {"model": {"name": "m", "source": {"builtin": {}}}},
    }))
    .unwrap();
    let event = of_change(&resource, &next).remove(0);
    assert!((1020..=1024).contains(&event.note.len()), "{}", event.note.len());
    assert!(event.note.ends_with("ä…"));
}

#[test]
fn what_was_deleted_is_told_with_the_reason() {
    let target = |name: &str| Target { name: name.into(), uid: format!("uid-{name}") };
    let eviction = |claims: &[&str], standing| Eviction {
        pod: target("a-shard-1-0"),
        claims: claims.iter().map(|name| target(name)).collect(),
        node: "far".into(),
        standing,
    };
    let silent = Standing::Unreachable { since: Timestamp::UNIX_EPOCH };
    let events = of_evictions(&[eviction(&[], silent), eviction(&["model-a-shard-1-0"], Standing::Gone)]);
    let told: Vec<_> = events.iter().map(|one| (one.kind, &*one.reason, &*one.note)).collect();
    let expected = [
        (Kind::Warning, "PodDeleted", "pod a-shard-1-0 is deleted by force: its node far cannot be reached"),
        (
            Kind::Warning,
            "ClaimDeleted",
            "claim model-a-shard-1-0 is deleted, so that pod a-shard-1-0 gets a new volume: the old one is on node far, which is gone",
        ),
    ];
    assert_eq!(told, expected);
    let related = events[1].related.clone().unwrap();
    assert_eq!(
        (related.kind.unwrap(), related.uid.unwrap()),
        ("PersistentVolumeClaim".into(), "uid-model-a-shard-1-0".to_owned())
    );
}
