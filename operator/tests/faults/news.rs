//! News while a ShardCluster waits for its next attempt.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::DEBOUNCE;
use crate::call::{Call, Verb};
use crate::server::{Fault, Server};
use crate::world::{World, at, cluster, condition, gaps};

const ALWAYS: usize = usize::MAX;
/// What users are promised of a status.
const SOON: Duration = Duration::from_secs(2);

fn reads_a_secret(call: &Call) -> bool {
    call.is(Verb::Get, "secrets", "tiny-identities")
}

/// Somebody changes a child, of which a watch tells.
fn drift(server: &Server, port: u32) {
    let patch = json!({"spec": {"ports": [{"name": "http", "port": port}]}});
    server.change(|objects| drop(objects.merge(at("services", "tiny-gateway"), &patch).unwrap()));
}

/// A pod that cannot begin, as a kubelet tells of it; or another reason of the one that is there.
fn waiting_pod(server: &Server, why: &str) {
    let labels = json!({"app.kubernetes.io/instance": "tiny", "app.kubernetes.io/component": "bootstrap",
               "app.kubernetes.io/managed-by": "shardcluster-operator"});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "tiny-bootstrap-0", "labels": labels},
        "spec": {"containers": [{"name": "server"}]},
        "status": {"phase": "Pending", "containerStatuses": [{
            "name": "server", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ImagePullBackOff", "message": why}},
        }]},
    });
    server.change(|objects| {
        let there = at("pods", "tiny-bootstrap-0");
        let merged = objects.merge(there, &json!({"status": pod["status"]}));
        merged.or_else(|_| objects.create(at("pods", ""), pod)).unwrap();
    });
}

#[tokio::test(start_paused = true)]
async fn news_does_not_end_a_back_off() {
    let faults =
        [Fault::Code(401, "Unauthorized"), Fault::Code(500, "InternalError"), Fault::Code(403, "Forbidden")];
    for fault in faults {
        let world = World::with_tiny();
        world.until_done("tiny").await;
        let before = gaps(&world.server, reads_a_secret).len();
        world.server.fail(ALWAYS, fault, reads_a_secret);
        for second in 0..300 {
            drift(&world.server, 10_000 + second);
            sleep(Duration::from_secs(1)).await;
        }
        // The first of them is the time from the last success.
        let waits = gaps(&world.server, reads_a_secret)[before + 1..].to_vec();
        assert!((8..14).contains(&waits.len()), "{fault:?}: {waits:?}");
        for (failure, wait) in (0..8).zip(&waits) {
            let full = Duration::from_millis(500) * 2_u32.pow(failure);
            assert!((full / 2..=full + 2 * DEBOUNCE).contains(wait), "{fault:?}: {waits:?}");
        }
        world.server.heal();
        let mended = |server: &Server| {
            let state = server.lock();
            let service = state.objects.get(&at("services", "tiny-gateway")).unwrap();
            service["spec"]["ports"][0]["port"] == 8080
        };
        world.until("what was changed is mended", mended).await;
        world.is_quiet().await;
        world.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn another_spec_is_tried_at_once() {
    let world = World::with_tiny();
    world.until_done("tiny").await;
    world.server.fail(10, Fault::Code(500, "InternalError"), reads_a_secret);
    drift(&world.server, 10_000);
    let ten = |server: &Server| server.lock().seen.iter().filter(|seen| seen.code == 500).count() == 10;
    world.until("ten failures", ten).await;
    let begun = Instant::now();
    world.server.change(|objects| {
        objects.merge(cluster("tiny"), &json!({"spec": {"shards": {"count": 3}}})).unwrap();
    });
    let new = at("statefulsets", "tiny-shard-2");
    world.until("the third shard", |server| server.lock().objects.get(&new).is_ok()).await;
    assert!(begun.elapsed() <= SOON, "{:?}", begun.elapsed());
    world.is_quiet().await;
    world.stop().await;
}

/// Writes that somebody may refuse, and are not the last ones.
const REFUSED: [(Verb, &str, &str); 3] = [
    (Verb::Apply, "services", "tiny-gateway"),
    (Verb::Apply, "statefulsets", "tiny-shard-1"),
    (Verb::Create, "secrets", "tiny-identities"),
];

#[tokio::test(start_paused = true)]
async fn while_a_write_is_refused_it_is_not_sent_at_every_event_and_the_status_is_right_at_once() {
    for (verb, kind, name) in REFUSED {
        let is_refused = move |call: &Call| call.is(verb, kind, name);
        let world = World::with_tiny();
        world.server.fail(ALWAYS, Fault::Code(403, "Forbidden"), is_refused);
        for second in 0..300 {
            let (begun, why) = (Instant::now(), format!("no such image, {second}"));
            waiting_pod(&world.server, &why);
            let told = |server: &Server| {
                condition(server, "tiny", "BootstrapReady").is_some_and(|said| said[2].contains(&why))
            };
            world.until("the pod's state is told", told).await;
            assert!(begun.elapsed() <= SOON, "{name}: {:?}", begun.elapsed());
            let ready = condition(&world.server, "tiny", "Ready").unwrap();
            assert!(ready[1] == "ApplyFailed" && ready[2].contains(name), "{ready:?}");
            sleep(Duration::from_secs(1)).await;
        }
        let waits = gaps(&world.server, is_refused);
        assert!((8..16).contains(&waits.len()), "{name}: {waits:?}");
        for (failure, wait) in (0..8).zip(&waits) {
            let full = Duration::from_millis(500) * 2_u32.pow(failure);
            // Debouncing puts off what is due while news comes.
            assert!((full / 2..=full + Duration::from_secs(1)).contains(wait), "{name}: {waits:?}");
        }
        world.server.heal();
        world.until_done("tiny").await;
        world.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_else_is_wrong_is_mended_while_a_write_is_refused() {
    let world = World::with_tiny();
    world.until_done("tiny").await;
    let is_refused = |call: &Call| call.is(Verb::Apply, "statefulsets", "tiny-shard-1");
    world.server.fail(ALWAYS, Fault::Code(403, "Forbidden"), is_refused);
    world.server.change(|objects| drop(objects.delete(&at("statefulsets", "tiny-shard-1")).unwrap()));
    world
        .until("the refusal is told", |server| {
            condition(server, "tiny", "Ready").is_some_and(|ready| ready[1] == "ApplyFailed")
        })
        .await;
    sleep(Duration::from_secs(600)).await;
    let (refused, begun) = (gaps(&world.server, is_refused).len(), Instant::now());
    drift(&world.server, 10_000);
    let mended = |server: &Server| {
        let state = server.lock();
        state.objects.get(&at("services", "tiny-gateway")).unwrap()["spec"]["ports"][0]["port"] == 8080
    };
    world.until("what was changed is mended", mended).await;
    assert!(begun.elapsed() <= SOON, "{:?}", begun.elapsed());
    assert!(gaps(&world.server, is_refused).len() <= refused + 1, "it may just have been due");
    // Another spec may be what helps.
    world.server.heal();
    let begun = Instant::now();
    world.server.change(|objects| {
        objects.merge(cluster("tiny"), &json!({"spec": {"refreshIntervalSeconds": 30}})).unwrap();
    });
    let there = at("statefulsets", "tiny-shard-1");
    world.until("it is there", |server| server.lock().objects.get(&there).is_ok()).await;
    assert!(begun.elapsed() <= SOON, "{:?}", begun.elapsed());
    world.until_done("tiny").await;
    world.is_quiet().await;
    world.stop().await;
}
