//! What a ShardCluster that had the same name has left: nobody collects garbage here, so the operator has to.

use serde_json::json;

use crate::objects::Objects;
use crate::server::Server;
use crate::world::{World, at, condition, make};

fn leave(objects: &mut Objects, kind: &str, plural: &str, name: &str) {
    let object = json!({
        "apiVersion": "v1", "kind": kind,
        "metadata": {
            "name": name,
            "labels": {
                "app.kubernetes.io/instance": "tiny",
                "app.kubernetes.io/managed-by": "shardcluster-operator",
            },
            "ownerReferences": [{
                "apiVersion": "shardcluster.io/v1alpha1", "kind": "ShardCluster", "name": "tiny",
                "uid": "of-one-before", "controller": true,
            }],
        },
    });
    objects.create(at(plural, ""), object).unwrap();
}

#[tokio::test(start_paused = true)]
async fn it_goes_and_is_made_anew() {
    let server = Server::default();
    server.change(|objects| {
        leave(objects, "Service", "services", "tiny-gateway");
        leave(objects, "Secret", "secrets", "tiny-operator-key");
    });
    make(&server, "tiny", 2);
    let world = World::on(server, 4);
    world
        .until("it is told of", |server| {
            condition(server, "tiny", "Ready")
                .is_some_and(|[_, _, message]| message.contains("is being deleted"))
        })
        .await;
    world.until_done("tiny").await;
    world.is_quiet().await;
    let state = world.server.lock();
    for place in [at("services", "tiny-gateway"), at("secrets", "tiny-operator-key")] {
        let owner = &state.objects.get(&place).unwrap()["metadata"]["ownerReferences"][0]["uid"];
        assert!(owner.is_string() && owner != "of-one-before", "{place:?}: {owner}");
    }
    drop(state);
    world.stop().await;
}
