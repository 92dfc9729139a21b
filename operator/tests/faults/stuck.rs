//! A pod that waits for what its template does not ask for any more.

use serde_json::json;

use crate::call::{Call, Verb};
use crate::objects::Objects;
use crate::server::{Cut, Fault, Server};
use crate::world::{World, at};

const POD: &str = "tiny-bootstrap-0";

fn is_deletion(call: &Call) -> bool {
    call.is(Verb::Delete, "pods", POD)
}

fn deletions(server: &Server, code: u16) -> usize {
    server.lock().seen.iter().filter(|seen| is_deletion(&seen.call) && seen.code == code).count()
}

fn make(objects: &mut Objects) {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": POD,
            "labels": {
                "app.kubernetes.io/instance": "tiny", "app.kubernetes.io/component": "bootstrap",
                "app.kubernetes.io/managed-by": "shardcluster-operator",
            },
            "annotations": {"shardcluster.io/template-hash": "of another template"},
        },
        "spec": {"containers": [{"name": "server"}]},
    });
    objects.create(at("pods", ""), pod).unwrap();
}

fn is_ready(objects: &mut Objects, ready: &str) {
    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}});
    objects.merge(at("pods", POD), &status).unwrap();
}

#[tokio::test(start_paused = true)]
async fn it_is_not_deleted_when_it_has_become_ready_since_it_was_seen() {
    let world = World::with_tiny();
    world.until_done("tiny").await;
    world.server.fail(1, Fault::Code(500, "InternalError"), is_deletion);
    world.server.change(make);
    world.until("the first deletion fails", |server| deletions(server, 500) == 1).await;
    // Before the next one, and the operator does not know.
    world.server.cut("pods", Cut::Silence, |objects| is_ready(objects, "True"));
    let watches = |server: &Server| {
        let state = server.lock();
        state
            .seen
            .iter()
            .filter(|seen| seen.call.verb == Verb::Watch && seen.call.place.kind == "pods")
            .count()
    };
    let open = watches(&world.server);
    world.until("it is not the pod that was seen", |server| deletions(server, 409) > 0).await;
    world.until("the operator knows again", |server| watches(server) > open).await;
    world.is_quiet().await;
    let conflicts = deletions(&world.server, 409);
    assert!(conflicts < 20, "{conflicts}");
    assert!(world.server.lock().objects.get(&at("pods", POD)).is_ok());
    // As it is seen, it goes.
    world.server.change(|objects| is_ready(objects, "False"));
    world.until("it is gone", |server| server.lock().objects.get(&at("pods", POD)).is_err()).await;
    assert_eq!((deletions(&world.server, 200), deletions(&world.server, 409)), (1, conflicts));
    world.stop().await;
}
