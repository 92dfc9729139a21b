//! Twenty orders of the same events: whatever comes first, each condition changes once for each cause, its time changes
//! with its status alone, and it is right soon after every event.
//!
//! The API server is real; pods, kubelets and the gateway are played, so that nothing happens that is not in the script.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod fixture;
mod order;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fixture::Fleet;
use futures::StreamExt;
use order::SHARDS;
use order::expected::expected;
use order::record::Record;
use order::script::script;
use order::stage::{answer, perform};
use order::state::{Event, State};
use serde_json::json;
use shard_e2e::{ControlPlane, Parts, skipped};
use shard_operator::crd::ShardCluster;

const ORDERS: u64 = 20;
const AT_ONCE: usize = 4;
/// The design's promise.
const SOON: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn in_every_order_each_condition_changes_once_for_each_cause() {
    let plane = match ControlPlane::start(Parts::default()).await {
        Err(error) if skipped(&error) => return,
        plane => plane.unwrap(),
    };
    let all = futures::stream::iter(0..ORDERS).map(|seed| play(&plane, seed)).buffer_unordered(AT_ONCE);
    let times: Vec<(Event, Duration)> = all.collect::<Vec<_>>().await.concat();

    // Of each kind of event the middle one: a busy machine delays some, and a kind that waits for nothing but time, all.
    let mut kinds: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
    for (event, took) in &times {
        let name = format!("{event:?}");
        kinds.entry(name.split('(').next().unwrap().to_owned()).or_default().push(*took);
    }
    for (kind, mut times) in kinds {
        times.sort();
        let middle = times[times.len() / 2];
        println!("{kind}: {middle:?} in the middle of {}, {:?} at most", times.len(), times[times.len() - 1]);
        assert!(middle <= SOON, "{kind}: {times:?}");
    }
}

/// How long the status took after each event that it has to tell of.
async fn play(plane: &ControlPlane, seed: u64) -> Vec<(Event, Duration)> {
    let (fleet, mut state) = (Fleet::start_on(plane, "order").await, State::default());
    fleet.gateway_says(answer(&state));
    let mut record = Record::start(fleet.api::<ShardCluster>(), "tiny").await;
    fleet.apply(json!({"shards": {"count": SHARDS}, "storage": {"emptyDir": true}})).await;
    let mut wanted = expected(&state);
    record.until("nothing is there yet", &wanted).await;

    let (mut times, mut all, mut events) = (Vec::new(), vec![wanted.clone()], Vec::new());
    for event in script(seed) {
        state = state.after(event);
        events.push(event);
        let begun = Instant::now();
        perform(&fleet, event, &state).await;
        let next = expected(&state);
        let right = record.until(&format!("order {seed}: {events:?}"), &next).await;
        if next != wanted {
            times.push((event, right.saturating_duration_since(begun)));
            all.push(next.clone());
        }
        wanted = next;
    }
    fleet.until_quiet().await;
    for condition in wanted.keys() {
        let mut sequence: Vec<_> = all.iter().map(|said| said[condition].clone()).collect();
        sequence.dedup();
        assert_eq!(record.sequence(condition), sequence, "order {seed}, {condition}: {events:?}");
    }
    record.check_times();
    fleet.stop().await;
    times
}
