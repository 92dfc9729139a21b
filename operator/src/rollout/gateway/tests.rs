use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use shard_wire::pipeline::PipelineStatus;

use super::super::fleet::Fleet;
use super::super::tests::{fleet, live, mark, partitions, pod, shard};
use super::super::{Rollout, decide};
use super::*;
use crate::cluster::Cluster;
use crate::desired::meta::TEMPLATE_HASH;
use crate::desired::{Desired, Facts, desired};
use crate::observe::{Children, Observed};
use crate::settings::Settings;
use crate::validate::validate;
use crate::watch::as_kept;

#[test]
fn a_gateway_keeps_its_image_while_only_the_old_one_can_serve() {
    let (old, new) = (mark("1", "a"), mark("2", "b"));
    let behind = |replicas| {
        let mut all = Fleet { wire: Wire::Other, ..fleet(replicas, &old, &new) };
        all.gateway.pods[0].mark = mark("gateway before", "");
        all.gateway.has_image = false;
        all
    };
    let serves_new = |all: &mut Fleet, ordinal: u32| {
        for shard in &mut all.shards {
            shard.live = Some(live(&new, shard.replicas, ordinal));
            shard.pods[ordinal as usize] = pod(ordinal, &new, true);
        }
    };
    type Case = (&'static str, u32, fn(&mut Fleet), bool);
    let table: [Case; 16] = [
        ("two columns, none of them new", 2, |_| {}, true),
        ("the pipeline is not complete for a moment", 2, |all| all.gateway.serves = false, true),
        ("the one column, which serves", 1, |_| {}, true),
        ("the one column, which serves no more", 1, |all| all.gateway.serves = false, false),
        ("the wire version is the same", 2, |all| all.wire = Wire::Same, false),
        ("it is not known", 2, |all| all.wire = Wire::Unheard, true),
        ("the bootstrap is not there", 2, |all| all.bootstrap.pods[0].ready = false, true),
        ("the old gateway is made anew", 2, |all| all.gateway.pods[0].ready = false, true),
        ("its pod is gone", 2, |all| all.gateway.pods.clear(), true),
        (
            "it is in trouble",
            2,
            |all| (all.gateway.pods[0].ready, all.gateway.pods[0].troubled) = (false, true),
            false,
        ),
        (
            "it only starts, and has done so for long",
            2,
            |all| (all.gateway.pods[0].ready, all.gateway.pods[0].overdue) = (false, true),
            false,
        ),
        (
            "no pod of it can be created",
            2,
            |all| {
                all.gateway.pods.clear();
                all.gateway.is_refused = true;
            },
            false,
        ),
        (
            "one of the wanted image serves",
            2,
            |all| all.gateway.pods[0].mark = all.gateway.wanted.clone(),
            false,
        ),
        ("nothing but the image is as it was", 2, |all| all.gateway.has_image = true, false),
        ("the plan is not known", 2, |all| all.known = false, true),
        (
            "the one column serves no more, and its pods stay",
            1,
            |all| (all.gateway.serves, all.known) = (false, false),
            true,
        ),
    ];
    for (case, replicas, change, expected) in table {
        let mut all = behind(replicas);
        change(&mut all);
        assert_eq!(stays(&all), expected, "{case}");
    }

    // The first column is through: the gateway goes, and nothing else.
    let mut all = behind(3);
    serves_new(&mut all, 2);
    assert!(!stays(&all));
    assert_eq!((partitions(&all), decide(&all).rollout), (vec![2, 2, 2], Rollout::Gateway));
    // The old pod ends its sessions.
    all.gateway.has_image = true;
    all.gateway.pods = vec![
        Pod { going: true, ..pod(0, &mark("gateway before", ""), false) },
        pod(0, &all.gateway.wanted, true),
    ];
    assert_eq!((partitions(&all), decide(&all).rollout), (vec![2, 2, 2], Rollout::Gateway));
    all.gateway.pods.remove(0);
    assert_eq!(partitions(&all), [1, 1, 1]);
    // Back again, where the last column is still of the plan that is wanted now: it is not left before the gateway is.
    let mut all = behind(2);
    for shard in &mut all.shards {
        shard.live = Some(live(&old, 2, 1));
        shard.pods[0] = pod(0, &new, true);
    }
    assert_eq!((partitions(&all), decide(&all).rollout), (vec![2, 2, 2], Rollout::Gateway));
    // That column is on its way already: it is nothing to count on.
    all.shards[0].live = Some(live(&old, 2, 0));
    assert!(stays(&all));
}

#[test]
fn what_an_image_speaks_is_heard_of_its_own_bootstrap() {
    let answers = |gateway: u8, origin: u8, incarnation: &str| {
        let mut pipeline = PipelineStatus { wire_version: gateway, ..PipelineStatus::default() };
        (pipeline.origin.wire_version, pipeline.origin.incarnation) = (origin, incarnation.into());
        GatewayView::Answered(Box::new(pipeline))
    };
    let has_made = |plan: &str, view: GatewayView| {
        let GatewayView::Answered(mut pipeline) = view else { return view };
        pipeline.origin.plan = plan.into();
        GatewayView::Answered(pipeline)
    };
    let table = [
        (answers(1, 1, "new"), Wire::Same),
        (answers(1, 2, "new"), Wire::Other),
        (answers(2, 1, "other"), Wire::Other),
        (answers(1, 1, "old"), Wire::Unheard),
        (answers(1, 0, ""), Wire::Unheard),
        (answers(0, 0, ""), Wire::Same),
        (has_made("p", answers(1, 0, "")), Wire::Same),
        (has_made("p", answers(1, 1, "old")), Wire::Unheard),
        (has_made("p", answers(1, 1, "")), Wire::Unheard),
        (GatewayView::NotReady, Wire::Unheard),
        (GatewayView::Asking, Wire::Unheard),
        (GatewayView::Unreachable("no".into()), Wire::Unheard),
    ];
    for (view, expected) in table {
        let starts = ["other", "new"].map(|uid| as_kept::<KubePod>(json!({"metadata": {"uid": uid}})));
        assert_eq!(Wire::heard(&view, &starts.each_ref()), expected, "{view:?}");
    }
}

/// The image may be what lets gateways hear it.
#[test]
fn what_nobody_hears_for_long_is_waited_for_no_more() {
    let (cluster, facts, desired, observed) = wanted();
    let template = &desired.bootstrap.stateful_set.spec.as_ref().unwrap().template;
    let heard = |ready: &str, seconds: i64| {
        let condition =
            json!({"type": "Ready", "status": ready, "lastTransitionTime": "1970-01-01T00:00:00Z"});
        let pod = json!({
            "metadata": {"name": "tiny-bootstrap-0", "uid": "b", "annotations": template.metadata.as_ref().unwrap().annotations},
            "status": {"conditions": [condition]},
        });
        let observed =
            Observed { pods: vec![as_kept(pod)], ..Observed::nothing_of(observed.resource.clone()) };
        let now = Timestamp::from_second(seconds).unwrap();
        Fleet::new(&cluster, &facts, &observed, &desired, now).wire
    };
    assert_eq!(heard("True", 3_600), Wire::Unheard);
    assert_eq!(heard("True", 3_601), Wire::Same);
    assert_eq!(heard("False", 7_200), Wire::Unheard, "it is not ready");
}

#[test]
fn where_one_shard_has_one_pod_no_column_waits_for_the_gateway() {
    let (old, new) = (mark("1", "a"), mark("2", "b"));
    let mut all = Fleet { wire: Wire::Other, ..fleet(1, &old, &new) };
    all.shards[0] = shard(0, 2, &old, &new);
    (all.gateway.has_image, all.gateway.serves) = (false, false);
    all.gateway.pods[0].mark = mark("gateway before", "");
    assert!(!stays(&all), "nothing that it can serve will be complete");
    all.gateway.serves = true;
    assert!(stays(&all));
}

/// What is wanted of the only image that there is, and nothing of it is there.
fn wanted() -> (Cluster, Facts, Desired, Observed) {
    let resource = json!({
        "apiVersion": "shardcluster.io/v1alpha1", "kind": "ShardCluster",
        "metadata": {"name": "tiny", "namespace": "llm", "uid": "1"},
        "spec": {"image": "node:2", "model": {"name": "m", "source": {"builtin": {}}}, "shards": {"count": 1}},
    });
    let observed = Observed::nothing_of(serde_json::from_value(resource).unwrap());
    let cluster = validate(&observed.resource, &Settings::example()).unwrap();
    let facts = Facts::default();
    let desired = desired(&cluster, &facts);
    (cluster, facts, desired, observed)
}

/// A pod of this template, with another image, as it is kept.
fn pod_of(name: &str, template: &PodTemplateSpec, image: &str, phase: &str) -> KubePod {
    let mut pod = json!({"metadata": template.metadata, "spec": template.spec});
    pod["metadata"]["name"] = name.into();
    pod["spec"]["containers"][0]["image"] = image.into();
    pod["status"] = json!({"phase": phase, "conditions": [{"type": "Ready", "status": "True"}]});
    as_kept(pod)
}

#[test]
fn a_gateway_is_old_by_its_image_and_not_by_what_others_make_of_it() {
    let (cluster, facts, desired, observed) = wanted();
    let template = template(&desired.gateway.deployment).unwrap();
    let mut other = template.clone();
    other.metadata.as_mut().unwrap().annotations = None;
    let seen = |deployment: (&PodTemplateSpec, &str), pod: KubePod| {
        let mut live = desired.gateway.deployment.clone();
        live.spec.as_mut().unwrap().template = deployment.0.clone();
        let image = &mut live.spec.as_mut().unwrap().template.spec.as_mut().unwrap().containers[0].image;
        *image = Some(deployment.1.into());
        let children = Children { deployments: vec![live], ..Children::default() };
        let observed = Observed {
            resource: observed.resource.clone(),
            children,
            pods: vec![pod],
            ..Observed::nothing_of(observed.resource.clone())
        };
        let gateway = Fleet::new(&cluster, &facts, &observed, &desired, Timestamp::UNIX_EPOCH).gateway;
        let is_old: Vec<bool> = gateway.pods.iter().map(|pod| pod.mark != gateway.wanted).collect();
        (gateway.has_image, is_old)
    };
    let of = |template, image, phase| pod_of("tiny-gateway-x", template, image, phase);
    // A mirror's name is put in place of the registry's.
    assert_eq!(seen((template, "mirror/2"), of(template, "mirror/2", "Running")), (true, vec![false]));
    assert_eq!(seen((&other, "node:1"), of(&other, "node:1", "Running")), (false, vec![true]));
    assert_eq!(
        seen((&other, "node:2"), of(&other, "node:2", "Running")),
        (true, vec![false]),
        "of the image"
    );
    assert_eq!(seen((template, "node:2"), of(&other, "node:1", "Running")), (true, vec![true]));
    // Somebody puts a container before it.
    let mut beside = other.clone();
    let proxy = json!({"name": "proxy", "image": "proxy:1"});
    beside.spec.as_mut().unwrap().containers.push(serde_json::from_value(proxy).unwrap());
    beside.spec.as_mut().unwrap().containers.reverse();
    assert_eq!(image(&beside, template), Some("node:2"));
    // It was evicted, and is kept for its status.
    assert_eq!(seen((template, "node:2"), of(&other, "node:1", "Failed")), (true, vec![]));
}

#[test]
fn an_image_moves_where_a_pod_of_a_shard_has_another_one() {
    let (cluster, facts, desired, observed) = wanted();
    let template = &desired.shards[0].stateful_set.spec.as_ref().unwrap().template;
    let moves = |hash: Option<&str>, image: &str, beside: Option<Value>| {
        let mut pod = json!(pod_of("tiny-shard-0-0", template, image, "Running"));
        if let Some(hash) = hash {
            pod["metadata"]["annotations"][TEMPLATE_HASH] = hash.into();
        }
        let containers = pod["spec"]["containers"].as_array_mut().unwrap();
        containers.splice(0..0, beside);
        let pods = vec![as_kept(pod)];
        let observed = Observed { pods, ..Observed::nothing_of(observed.resource.clone()) };
        Fleet::new(&cluster, &facts, &observed, &desired, Timestamp::UNIX_EPOCH).moves_image
    };
    let proxy = json!({"name": "proxy", "image": "proxy:1"});
    assert!(moves(Some("before"), "node:1", None));
    assert!(!moves(Some("before"), "node:2", None));
    assert!(!moves(Some("before"), "node:2", Some(proxy)));
    assert!(!moves(None, "mirror/2", None), "a mirror's name is put in place of the registry's");
}
