//! Twenty orders of the same events: whatever comes first, each condition changes once for each cause, its time changes
//! with its status alone, and it is right soon after every event.
//!
//! The API server is real; pods, kubelets and the gateway are played, so that nothing happens that is not in the script.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod fixture;
mod order;

use std::time::Duration;

use fixture::Fleet;
use futures::StreamExt;
use order::SHARDS;
use order::control::Control;
use order::expected::expected;
use order::record::Record;
use order::script::script;
use order::stage::{answer, perform};
use order::state::{Event, State};
use serde_json::json;
use shard_e2e::{ControlPlane, Parts, skipped};
use shard_operator::crd::ShardCluster;
use tokio::time::Instant;

const ORDERS: u64 = 20;
const AT_ONCE: usize = 4;
/// The design's promise.
const SOON: Duration = Duration::from_secs(2);
/// What a pass of the operator asks for, one after the other: each may take what the machine takes for a round then.
const ROUNDS: u32 = 6;

/// What a status has to tell of: since when, and when it did.
struct Told {
    event: Event,
    from: Instant,
    to: Instant,
}

#[tokio::test(flavor = "multi_thread")]
async fn in_every_order_each_condition_changes_once_for_each_cause() {
    let plane = match ControlPlane::start(Parts::default()).await {
        Err(error) if skipped(&error) => return,
        plane => plane.unwrap(),
    };
    let mut control = Control::start(plane.client().await.unwrap());
    let all = futures::stream::iter(0..ORDERS).map(|seed| play(&plane, seed)).buffer_unordered(AT_ONCE);
    let all: Vec<Told> = all.collect::<Vec<_>>().await.into_iter().flatten().collect();

    let mut times = Vec::new();
    for Told { event, from, to } in all {
        let (took, round) = (to - from, control.longest(from, to).await);
        println!("{event:?} {took:?} {round:?}");
        assert!(took <= SOON + ROUNDS * round, "{event:?}: {took:?}, and a round took {round:?} then");
        times.push(took);
    }
    times.sort();
    let (middle, last) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{middle:?} in the middle of {}, {last:?} at most", times.len());
}

/// What happens in one order.
async fn play(plane: &ControlPlane, seed: u64) -> Vec<Told> {
    let (fleet, mut state) = (Fleet::start_on(plane, "order").await, State::default());
    fleet.gateway_says(answer(&state));
    let mut record = Record::start(fleet.api::<ShardCluster>(), "tiny").await;
    fleet.apply(json!({"shards": {"count": SHARDS}, "storage": {"emptyDir": true}})).await;
    let mut wanted = expected(&state);
    record.until("nothing is there yet", &wanted).await;

    let (mut told, mut all, mut events) = (Vec::new(), vec![wanted.clone()], Vec::new());
    for event in script(seed) {
        state = state.after(event);
        events.push(event);
        perform(&fleet, event, &state).await;
        let from = Instant::now();
        let next = expected(&state);
        let to = record.until(&format!("order {seed}: {events:?}"), &next).await;
        if next != wanted {
            told.push(Told { event, from, to: to.max(from) });
            all.push(next.clone());
        }
        // What changes no condition, too, is seen before the next event is: watches and answers overtake one another.
        if state.can_be_asked() {
            fleet.gateway_is_heard().await;
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
    told
}
