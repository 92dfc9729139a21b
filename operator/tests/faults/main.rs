//! The controller on an API server that fails in every way that is known: whatever fails, and however, it ends in the same
//! state, and nothing is written twice without need.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod call;
mod ends;
mod former;
mod keys;
mod news;
mod objects;
mod refusals;
mod server;
mod stuck;
mod watches;
mod world;

use std::time::Duration;

use call::{Call, Verb};
use server::Fault;
use world::{Shape, World, check_written_once, difference, gaps, shape};

type Matches = fn(&Call) -> bool;

/// Done where a child is said to be there that no watch has told of.
const LOOKING: &str = "looking for somebody else's";

/// Each kind of request that a reconcile makes.
const PLACES: [(&str, Matches); 8] = [
    ("reading the resource", |call| call.is(Verb::Get, "shardclusters", "tiny")),
    ("reading a Secret", |call| call.is(Verb::Get, "secrets", "tiny-identities")),
    (LOOKING, |call| call.is(Verb::Get, "services", "tiny-gateway")),
    ("the first child", |call| call.is(Verb::Apply, "serviceaccounts", "tiny-bootstrap")),
    ("making a Secret", |call| call.is(Verb::Create, "secrets", "tiny-identities")),
    ("a child in the middle", |call| call.is(Verb::Apply, "statefulsets", "tiny-shard-0")),
    ("the last child", |call| call.is(Verb::Apply, "deployments", "tiny-gateway")),
    ("the status", Call::is_status),
];

const FAULTS: [Fault; 10] = [
    Fault::Code(409, "Conflict"),
    Fault::Busy(1),
    Fault::Busy(30),
    Fault::Code(500, "InternalError"),
    Fault::Code(503, "ServiceUnavailable"),
    Fault::Code(504, "Timeout"),
    Fault::Unreachable,
    Fault::Lost,
    Fault::Garbage,
    Fault::Silence,
];

/// So often each of them fails.
const TIMES: usize = 3;
/// What an API server may take.
const PATIENCE: Duration = Duration::from_secs(75);
/// What a reconcile waits for more of its kind.
const DEBOUNCE: Duration = Duration::from_millis(110);

/// What comes of ShardCluster `tiny` where nothing fails.
async fn calm() -> Shape {
    let world = World::with_tiny();
    world.until_done("tiny").await;
    world.is_quiet().await;
    check_written_once(&world.server, "nothing fails");
    let wanted = shape(&world.server);
    world.stop().await;
    wanted
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_and_however_the_end_is_the_same() {
    let wanted = calm().await;
    for (what, matches) in PLACES {
        for fault in FAULTS {
            let told = format!("{what}: {fault:?}");
            let world = World::with_tiny();
            world.server.fail(TIMES, fault, matches);
            if what == LOOKING {
                let first = |call: &Call| call.is(Verb::Apply, "services", "tiny-gateway");
                world.server.fail(TIMES + 1, Fault::Code(409, "Conflict"), first);
            }
            world.until_done("tiny").await;
            world.is_quiet().await;
            let differs = difference(&shape(&world.server), &wanted);
            assert!(differs.is_empty(), "{told}: {differs}");
            check_written_once(&world.server, &told);
            check_waits(&told, fault, &gaps(&world.server, matches));
            world.stop().await;
        }
    }
}

/// Conflicts are tried again at once, the rest ever later and never at the same time as others that failed along with it.
fn check_waits(told: &str, fault: Fault, waits: &[Duration]) {
    // What was done and not heard of is seen, and not done again; what is read often is read again after the faults.
    if fault == Fault::Lost && waits.len() < TIMES {
        return;
    }
    let waits = &waits[..TIMES];
    for (failure, wait) in (0..).zip(waits) {
        let full = Duration::from_millis(500) * 2_u32.pow(failure);
        let expected = match fault {
            Fault::Code(409, _) => Duration::ZERO..=DEBOUNCE,
            Fault::Busy(seconds) => {
                let asked = Duration::from_secs(seconds.into());
                asked.max(full / 2)..=asked.max(full) + DEBOUNCE
            }
            Fault::Silence => PATIENCE + full / 2..=PATIENCE + full + DEBOUNCE,
            _ => full / 2..=full + DEBOUNCE,
        };
        assert!(expected.contains(wait), "{told}: {waits:?}");
    }
}
