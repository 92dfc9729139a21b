//! The shards' pods while they move: the tests make one ready at a time, and look at all of them in between.

#![allow(dead_code, reason = "each program of tests uses a part")]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;
use shard_e2e::until;
use shard_operator::crd::condition;

use crate::fixture::{Fleet, is_condition};

pub(crate) const SHARD: &str = "shardcluster.io/shard";
pub(crate) const PLAN: &str = "shardcluster.io/plan";
/// The wire version that all speak at first.
pub(crate) const WIRE: u8 = 1;

/// A pod of a shard.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) shard: u32,
    pub(crate) image: String,
    pub(crate) plan: String,
    pub(crate) ready: bool,
}

pub(crate) async fn shard_pods(fleet: &Fleet) -> Vec<Seen> {
    let pods = fleet.api::<Pod>().list(&ListParams::default().labels(SHARD)).await.unwrap();
    let seen = |pod: Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        Some(Seen {
            name: pod.name_any(),
            shard: pod.labels().get(SHARD)?.parse().ok()?,
            image: pod.spec.as_ref()?.containers[0].image.clone()?,
            plan: pod.annotations().get(PLAN).cloned().unwrap_or_default(),
            ready: conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True"),
        })
    };
    pods.into_iter().filter_map(seen).collect()
}

/// Makes one pod ready that is not, until `is_over`; `check` sees the pods before each step.
pub(crate) async fn step_through(
    fleet: &Fleet,
    what: &str,
    check: impl Fn(&[Seen]),
    is_over: impl Fn(&[Seen]) -> bool,
) {
    until(what, || async {
        let pods = shard_pods(fleet).await;
        check(&pods);
        if let Some(pod) = pods.iter().find(|pod| !pod.ready) {
            say_of(fleet, &pod.name, "True").await;
        }
        is_over(&pods).then_some(())
    })
    .await;
}

/// What a kubelet says of a pod: whether it is ready.
pub(crate) async fn say_of(fleet: &Fleet, pod: &str, ready: &str) {
    let status = json!({"status": {"phase": "Running", "podIP": "127.0.0.1", "conditions": [
        {"type": "Ready", "status": ready}, {"type": "PodScheduled", "status": "True"},
    ]}});
    // It may have gone in between.
    let _ = fleet.api::<Pod>().patch_status(pod, &PatchParams::default(), &Patch::Merge(&status)).await;
}

/// How many pods of each shard are ready.
pub(crate) fn ready_of<'a>(pods: &'a [Seen], is: impl Fn(&&'a Seen) -> bool) -> BTreeMap<u32, usize> {
    let mut counts = BTreeMap::new();
    for pod in pods.iter().filter(|pod| pod.ready).filter(is) {
        *counts.entry(pod.shard).or_default() += 1;
    }
    counts
}

/// All pods of the first plan are ready, and the gateway proves it.
pub(crate) async fn complete(fleet: &Fleet, shards: u32, replicas: usize) {
    bootstrap_runs(fleet).await;
    fleet.gateway_runs().await;
    fleet.gateway_speaks(WIRE);
    fleet.gateway_knows_the_manifest(shards);
    let all = shards as usize * replicas;
    let are_ready = |pods: &[Seen]| pods.iter().filter(|pod| pod.ready).count() == all;
    step_through(fleet, "all pods are ready", |_| {}, are_ready).await;
    fleet.gateway_completes();
    fleet.until_status("it serves", |status| is_condition(status, condition::READY, "True", "Ready")).await;
}

/// The bootstrap that is there is ready, and speaks as all do at first.
pub(crate) async fn bootstrap_runs(fleet: &Fleet) {
    fleet.pods_run("tiny-bootstrap").await;
    fleet.gateway_hears_the_bootstrap(WIRE).await;
}

/// The bootstrap is made anew from the last spec, is ready, and speaks as before.
pub(crate) async fn bootstrap_moves(fleet: &Fleet) {
    bootstrap_is_replaced(fleet).await;
    fleet.gateway_hears_the_bootstrap(WIRE).await;
}

/// The bootstrap is made anew from the last spec, and is ready: no gateway has heard of it.
pub(crate) async fn bootstrap_is_replaced(fleet: &Fleet) {
    until("the bootstrap is on its way", || async {
        let pod = fleet.api::<Pod>().get_opt("tiny-bootstrap-0").await.unwrap()?;
        let ready = pod.status?.conditions.unwrap_or_default();
        (!ready.iter().any(|one| one.type_ == "Ready" && one.status == "True")).then_some(())
    })
    .await;
    fleet.pods_run("tiny-bootstrap").await;
}
