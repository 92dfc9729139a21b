//! Two operators of different releases that look after one namespace: what they want differs in who may reach the gateway.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod fixture;

use fixture::{Fleet, OPERATORS, is_condition};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::json;
use shard_e2e::until;
use shard_operator::crd::{ShardClusterStatus, condition};

/// Of both together, until each of them has given way.
const MAX_WRITES: usize = 300;
/// Passes while it goes on: in each of them a child that nobody gives way on is written.
const PASSES: i64 = 25;

#[tokio::test(flavor = "multi_thread")]
async fn who_writes_over_each_other_gives_way_and_says_so_and_peace_is_seen() {
    let Some(fleet) = Fleet::start("contest").await else { return };
    fleet.apply(json!({"networkPolicy": {"enabled": true}, "shards": {"count": 1}})).await;
    fleet.until_exist(&fleet.children(1)).await;
    fleet.until_quiet().await;
    let before = fleet.writes();
    let other = fleet.another_operator("elsewhere");
    let is_contested = |status: &_| is_condition(status, condition::READY, "False", "Contested");
    let status = fleet.until_status("it is told that somebody writes over a child", is_contested).await;
    let ready = status.conditions.iter().find(|one| one.type_ == condition::READY).unwrap();
    assert!(ready.message.contains("NetworkPolicy tiny-"), "{}", ready.message);
    let writes = fleet.writes() - before;
    assert!(writes < MAX_WRITES, "{writes} writes: {:?}", fleet.last_writes());

    let policies = fleet.api::<NetworkPolicy>();
    let version = async || policies.get("tiny-gateway").await.unwrap().metadata.generation.unwrap();
    let began = version().await;
    for _ in 0..PASSES {
        fleet.settled().await;
    }
    let times = version().await - began;
    assert!((1..PASSES).contains(&times), "it was changed {times} times in {PASSES} passes");
    let still = fleet.until_status("it is told all the time", is_contested).await;
    let changed = |status: &ShardClusterStatus| {
        let ready = status.conditions.iter().find(|one| one.type_ == condition::READY).unwrap();
        ready.last_transition_time.clone()
    };
    assert_eq!(changed(&still), changed(&status), "it was told, and told no more, and told again");

    other.end().await;
    until("the policy is the first operator's", || async {
        let policy = policies.get("tiny-gateway").await.unwrap();
        serde_json::to_string(&policy.spec).unwrap().contains(OPERATORS).then_some(())
    })
    .await;
    fleet
        .until_status("nothing is contested any more", |status| {
            status.conditions.iter().all(|one| one.reason != "Contested")
        })
        .await;
    fleet.stop().await;
}
