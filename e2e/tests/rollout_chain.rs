//! A plan that changes again while it rolls out, against a real API server and the real StatefulSet controller.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod fixture;
mod rolling;

use fixture::{Fleet, is_condition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use rolling::{Seen, bootstrap_moves, complete, ready_of, shard_pods, step_through};
use serde_json::json;
use shard_e2e::{ControlPlane, Parts, skipped};
use shard_operator::crd::condition;

/// Plans, and how many shards each has.
const PLANS: [(&str, u32); 3] = [("p1", 4), ("p2", 6), ("p3", 2)];

fn one_serves(pods: &[Seen]) {
    let serves =
        |(plan, shards): (&str, u32)| ready_of(pods, |pod| pod.plan == plan).len() == shards as usize;
    assert!(PLANS.into_iter().any(serves), "no plan is complete: {pods:#?}");
}

async fn ask_for(fleet: &Fleet, (plan, shards): (&str, u32)) {
    fleet.apply(json!({"shards": {"count": shards, "replicas": 2}})).await;
    bootstrap_moves(fleet).await;
    fleet.gateway_knows_of_another_plan(plan, shards);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_plan_in_the_last_column_of_the_one_before_leaves_one_complete() {
    // Without a scheduler, which says of pods that they fit no node: who is in trouble is not waited for.
    let plane = match ControlPlane::start(Parts { controller_manager: true, scheduler: false }).await {
        Err(error) if skipped(&error) => return,
        plane => plane.unwrap(),
    };
    let fleet = Fleet::start_on(&plane, "chain").await;
    fleet.apply(json!({"shards": {"count": 4, "replicas": 2}})).await;
    complete(&fleet, 4, 2).await;

    ask_for(&fleet, PLANS[1]).await;
    let has_begun =
        |pods: &[Seen]| pods.iter().any(|pod| pod.name == "tiny-shard-0-0" && pod.plan == "p2" && !pod.ready);
    step_through(&fleet, "the last column has begun", one_serves, has_begun).await;
    ask_for(&fleet, PLANS[2]).await;
    let waits =
        |one: &Condition| one.message.contains("the new plan waits until the one before it has reached");
    fleet.until_status("it waits", |status| status.conditions.iter().any(waits)).await;
    one_serves(&shard_pods(&fleet).await);
    step_through(&fleet, "all pods are of the last plan", one_serves, |pods| {
        pods.len() == 4 && pods.iter().all(|pod| pod.ready && pod.plan == "p3")
    })
    .await;
    fleet.gateway_goes_over();
    fleet
        .until_status("the rollout is over", |status| {
            is_condition(status, condition::PIPELINE_COMPLETE, "True", "Complete")
        })
        .await;
    fleet.stop().await;
}
