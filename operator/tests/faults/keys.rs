//! Keys are made once: whatever becomes of a ShardCluster and of its operators, what its Secrets hold stays as it is.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::call::{Call, Verb};
use crate::objects::Objects;
use crate::server::Server;
use crate::world::{World, at, cluster};

const CLUSTER_SECRET: &str = "tiny-cluster-secret";
const IDENTITIES: &str = "tiny-identities";
const OPERATOR_KEY: &str = "tiny-operator-key";

/// The three Secrets with all that an API server says of them, their versions included.
fn secrets(server: &Server) -> BTreeMap<&'static str, Value> {
    let state = server.lock();
    let whole = |name| (name, state.objects.get(&at("secrets", name)).unwrap().clone());
    [CLUSTER_SECRET, IDENTITIES, OPERATOR_KEY].map(whole).into()
}

/// The names of keys that users have ever been told of: the bootstrap's addresses have its own in them.
fn told(server: &Server) -> BTreeSet<String> {
    let state = server.lock();
    let written = state.seen.iter().filter(|seen| seen.call.is_status());
    let addresses = written.filter_map(|seen| seen.call.body["status"]["bootstrapAddress"].as_array());
    let name = |address: &Value| Some(address.as_str()?.split_once("/p2p/")?.1.to_owned());
    addresses.flatten().filter_map(name).collect()
}

fn passes(server: &Server) -> usize {
    let state = server.lock();
    state.seen.iter().filter(|seen| seen.call.is(Verb::Get, "shardclusters", "tiny")).count()
}

async fn another_operator(world: World) -> World {
    let server = world.server.clone();
    world.stop().await;
    let before = passes(&server);
    let world = World::on(server, 4);
    world.until("it looks at what is there", |server| passes(server) > before).await;
    world
}

async fn spec(world: &World, patch: Value) {
    world.server.change(|objects| {
        objects.merge(cluster("tiny"), &json!({ "spec": patch })).unwrap();
    });
    world.until_done("tiny").await;
    world.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn no_pass_no_restart_and_no_other_spec_changes_a_byte_of_what_is_held() {
    let mut world = World::with_tiny();
    world.until_done("tiny").await;
    let made = secrets(&world.server);
    let before = passes(&world.server);
    world.is_quiet().await;
    assert!(passes(&world.server) > before + 2, "it has looked again, with nothing to do");
    assert_eq!(secrets(&world.server), made, "after other passes");

    // Where something else is written, too.
    world.server.change(|objects| drop(objects.delete(&at("services", "tiny-gateway")).unwrap()));
    world
        .until("it is mended", |server| server.lock().objects.get(&at("services", "tiny-gateway")).is_ok())
        .await;
    world.is_quiet().await;
    assert_eq!(secrets(&world.server), made, "after a pass that wrote something");

    world = another_operator(world).await;
    world.is_quiet().await;
    assert_eq!(secrets(&world.server), made, "after a restart");

    for patch in [
        json!({"image": "node:2"}),
        json!({"model": {"source": {"builtin": null, "http": {"url": "https://example.org/a.gguf"}}}}),
        json!({"suspend": true, "nodeLossSeconds": 5}),
        json!({"suspend": false, "shards": {"count": 1}}),
        json!({"shards": {"count": 2}}),
    ] {
        spec(&world, patch.clone()).await;
        assert_eq!(secrets(&world.server), made, "after {patch}");
    }
    assert_eq!(told(&world.server).len(), 1, "the bootstrap is the same peer at all times");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn more_pods_get_keys_and_those_that_are_there_keep_theirs() {
    let mut world = World::with_tiny();
    world.until_done("tiny").await;
    let mut before = secrets(&world.server);
    let steps: [(Value, &[&str]); 4] = [
        (json!({"shards": {"count": 3}}), &["tiny-shard-2-0"]),
        (json!({"shards": {"replicas": 2}}), &["tiny-shard-0-1", "tiny-shard-1-1", "tiny-shard-2-1"]),
        (json!({"shards": {"replicas": 1, "count": 1}}), &[]),
        (json!({"shards": {"replicas": 2, "count": 3}, "bootstrap": {"replicas": 2}}), &["tiny-bootstrap-1"]),
    ];
    for (patch, new) in steps {
        spec(&world, patch.clone()).await;
        world = another_operator(world).await;
        let after = secrets(&world.server);
        for name in [CLUSTER_SECRET, OPERATOR_KEY] {
            assert_eq!(after[name], before[name], "{name} after {patch}");
        }
        let [old, all] = [&before, &after].map(|held| held[IDENTITIES]["data"].as_object().unwrap().clone());
        let added: Vec<&String> = all.keys().filter(|pod| !old.contains_key(*pod)).collect();
        assert_eq!(added, new, "after {patch}");
        assert!(old.iter().all(|(pod, key)| all.get(pod) == Some(key)), "after {patch}");
        before = after;
    }
    let keys: BTreeSet<&str> =
        before[IDENTITIES]["data"].as_object().unwrap().values().map(|key| key.as_str().unwrap()).collect();
    assert_eq!(keys.len(), 8, "no two pods have the same key");
    assert_eq!(told(&world.server).len(), 2, "one name for each bootstrap pod");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_user_rotates_stays_rotated() {
    let world = World::with_tiny();
    world.until_done("tiny").await;
    // As `kubectl` writes it: base64.
    let rotate = |objects: &mut Objects| {
        let patch = json!({"data": {"cluster-secret": "bmV3Cm9sZA=="}});
        objects.merge(at("secrets", CLUSTER_SECRET), &patch).unwrap();
    };
    world.server.change(rotate);
    let rotated = secrets(&world.server);
    spec(&world, json!({"image": "node:2"})).await;
    let world = another_operator(world).await;
    world.is_quiet().await;
    assert_eq!(secrets(&world.server), rotated);
    let overwrites =
        |call: &Call| call.place.kind == "secrets" && matches!(call.verb, Verb::Apply | Verb::Delete);
    assert!(!world.server.lock().seen.iter().any(|seen| overwrites(&seen.call)));
    world.stop().await;
}
