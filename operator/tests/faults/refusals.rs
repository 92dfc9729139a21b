//! What the API server does not want, and what fails for long.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::call::{Call, Verb};
use crate::objects::{Objects, Place};
use crate::server::{Fault, Server};
use crate::world::{
    World, at, changes, check_written_once, cluster, condition, difference, gaps, make, shape,
};

const ALWAYS: usize = usize::MAX;
const HOUR: Duration = Duration::from_secs(3600);

fn is_gateways_service(call: &Call) -> bool {
    call.is(Verb::Apply, "services", "tiny-gateway")
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_told_once_and_tried_again_ever_later_until_it_is_not() {
    let wanted = crate::calm().await;
    let refusals = [(403, "Forbidden"), (422, "Invalid"), (400, "BadRequest"), (404, "NotFound")];
    for (code, reason) in refusals {
        let world = World::with_tiny();
        world.server.fail(ALWAYS, Fault::Code(code, reason), is_gateways_service);
        world
            .until("the refusal is told", |server| {
                condition(server, "tiny", "Ready").is_some_and(|ready| {
                    let told = format!("cannot apply Service llm/tiny-gateway: the API server says {reason}");
                    ready[..2] == ["False", "ApplyFailed"] && ready[2].contains(&told)
                })
            })
            .await;
        sleep(HOUR).await;
        let waits = gaps(&world.server, is_gateways_service);
        assert!(waits.len() > 30, "{reason}: it may be allowed at any time: {waits:?}");
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(121)), "{reason}: {waits:?}");
        assert!(waits[10..].iter().all(|wait| *wait >= Duration::from_secs(60)), "{reason}: {waits:?}");
        // The second status has the addresses of the bootstrap, whose keys were made by then.
        let most = |place: &Place| if place.kind == "shardclusters" { 2 } else { 1 };
        let written = changes(&world.server);
        assert!(written.iter().all(|(place, count)| *count <= most(place)), "{reason}: {written:#?}");

        world.server.heal();
        world.until_done("tiny").await;
        world.is_quiet().await;
        let differs = difference(&shape(&world.server), &wanted);
        assert!(differs.is_empty(), "{reason}: {differs}");
        world.stop().await;
    }
}

/// Whoever puts it right: the operator sees it, though it does not send its own write again for a long time.
#[tokio::test(start_paused = true)]
async fn what_is_as_it_should_be_again_is_refused_no_more() {
    const LABEL: &str = "app.kubernetes.io/name";
    let world = World::with_tiny();
    world.until_done("tiny").await;
    let (set, deployment) = (at("statefulsets", "tiny-shard-0"), at("deployments", "tiny-gateway"));
    let is_refused = |call: &Call| {
        call.is(Verb::Apply, "statefulsets", "tiny-shard-0")
            || call.is(Verb::Apply, "deployments", "tiny-gateway")
    };
    let label = |place: &Place, value: &str| {
        let patch = json!({"spec": {"template": {"metadata": {"labels": {LABEL: value}}}}});
        world.server.change(|objects| drop(objects.merge(place.clone(), &patch).unwrap()));
    };
    let told = |names: [bool; 2]| {
        move |server: &Server| {
            let Some([_, reason, message]) = condition(server, "tiny", "Ready") else { return false };
            let tells = ["tiny-shard-0", "tiny-gateway"].map(|name| message.contains(name));
            tells == names && (reason == "ApplyFailed") == (names != [false; 2])
        }
    };
    let good = {
        let state = world.server.lock();
        let labels = &state.objects.get(&set).unwrap()["spec"]["template"]["metadata"]["labels"];
        labels[LABEL].as_str().unwrap().to_owned()
    };
    world.server.fail(ALWAYS, Fault::Code(403, "Forbidden"), is_refused);
    label(&set, "x");
    label(&deployment, "x");
    world.until("both refusals are told", told([true, true])).await;
    sleep(HOUR).await;
    let (sent, begun) = (gaps(&world.server, is_refused).len(), Instant::now());
    label(&deployment, &good);
    world.until("the Deployment is as it should be", told([true, false])).await;
    label(&set, &good);
    world.until("the StatefulSet, too", told([false, false])).await;
    assert!(begun.elapsed() <= Duration::from_secs(4), "{:?}", begun.elapsed());
    assert!(gaps(&world.server, is_refused).len() <= sent + 1, "it may just have been due");
    world.stop().await;
}

/// In one pass: the pod's node is lost, and the Deployment is not as it should be.
#[tokio::test(start_paused = true)]
async fn an_apply_and_an_eviction_that_are_refused_are_both_told() {
    let world = World::with_tiny();
    world.until_done("tiny").await;
    world.server.fail(ALWAYS, Fault::Code(403, "Forbidden"), |call| {
        call.is(Verb::Apply, "deployments", "tiny-gateway")
    });
    world.server.fail(ALWAYS, Fault::Code(403, "Forbidden"), |call| {
        call.is(Verb::Delete, "pods", "tiny-bootstrap-0")
    });
    world.server.change(|objects| {
        for (name, ready) in [("lost", "Unknown"), ("there", "True")] {
            let nodes = Place { kind: "nodes".into(), ..Place::default() };
            let ready = json!({"type": "Ready", "status": ready, "lastTransitionTime": "2020-01-01T00:00:00Z"});
            let node = json!({
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {"conditions": [ready]},
            });
            objects.create(nodes, node).unwrap();
        }
        let set = objects.get(&at("statefulsets", "tiny-bootstrap")).unwrap();
        // Of its template, so that it is to go for no other reason.
        let annotations = set["spec"]["template"]["metadata"]["annotations"].clone();
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "tiny-bootstrap-0", "annotations": annotations,
                "labels": {
                    "app.kubernetes.io/instance": "tiny", "app.kubernetes.io/component": "bootstrap",
                    "app.kubernetes.io/managed-by": "shardcluster-operator",
                },
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "tiny-bootstrap", "uid": "1", "controller": true,
                }],
            },
            "spec": {"nodeName": "lost", "containers": [{"name": "server"}]},
        });
        objects.create(at("pods", ""), pod).unwrap();
        let patch = json!({"spec": {"template": {"metadata": {"labels": {"app.kubernetes.io/name": "x"}}}}});
        objects.merge(at("deployments", "tiny-gateway"), &patch).unwrap();
    });
    world
        .until("both are told", |server| {
            condition(server, "tiny", "Ready").is_some_and(|[_, reason, message]| {
                let told = [
                    "cannot apply Deployment llm/tiny-gateway",
                    "cannot delete by force Pod llm/tiny-bootstrap-0",
                ];
                reason == "ApplyFailed" && told.iter().all(|told| message.contains(told))
            })
        })
        .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_right_that_is_missing_is_told_once_with_what_to_do() {
    let wanted = crate::calm().await;
    let world = World::with_tiny();
    world.server.fail(ALWAYS, Fault::Code(403, "Forbidden"), |call| {
        call.verb == Verb::Get && call.place.kind == "secrets"
    });
    world
        .until("what is missing is told", |server| {
            condition(server, "tiny", "Ready").is_some_and(|[holds, reason, message]| {
                let told = ["cannot read Secret llm/tiny-", "needs the verb get for Secret objects"];
                (&*holds, &*reason) == ("False", "Forbidden")
                    && told.iter().all(|told| message.contains(told))
            })
        })
        .await;
    sleep(HOUR).await;
    check_written_once(&world.server, "a right is missing");
    let events = |server: &Server| {
        let state = server.lock();
        state.objects.all().filter(|(place, _)| place.kind == "events").count()
    };
    assert_eq!(events(&world.server), 1);
    world.server.heal();
    world.until_done("tiny").await;
    world.is_quiet().await;
    let differs = difference(&shape(&world.server), &wanted);
    assert!(differs.is_empty(), "{differs}");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_status_the_children_are_there_and_are_left_alone() {
    let world = World::with_tiny();
    world.server.fail(ALWAYS, Fault::Code(403, "Forbidden"), Call::is_status);
    let last = at("deployments", "tiny-gateway");
    world.until("the last child", |server| server.lock().objects.get(&last).is_ok()).await;
    sleep(HOUR).await;
    check_written_once(&world.server, "without a status");
    world.server.heal();
    world.until_done("tiny").await;
    world.is_quiet().await;
    world.stop().await;
}

fn with_many(count: u32) -> (Server, Vec<String>) {
    let server = Server::default();
    let names: Vec<String> = (0..count).map(|id| format!("many-{id}")).collect();
    for name in &names {
        make(&server, name, 1);
    }
    (server, names)
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_holds_up_no_other() {
    for fault in
        [Fault::Code(500, "InternalError"), Fault::Code(403, "Forbidden"), Fault::Code(409, "Conflict")]
    {
        let (server, names) = with_many(20);
        server.fail(ALWAYS, fault, |call| call.is(Verb::Get, "secrets", "many-7-identities"));
        let (world, begun) = (World::on(server, 1), Instant::now());
        for name in names.iter().filter(|name| *name != "many-7") {
            world.until_done(name).await;
        }
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(5), "{fault:?}: {took:?}");
        world.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn those_that_fail_together_are_not_tried_together() {
    let (server, names) = with_many(20);
    let is_attempt = |call: &Call| call.verb == Verb::Get && call.place.kind == "shardclusters";
    server.fail(100, Fault::Code(503, "ServiceUnavailable"), is_attempt);
    let world = World::on(server, 16);
    for name in &names {
        world.until_done(name).await;
    }
    let seen = world.server.lock().seen.clone();
    let fifth = |name: &String| {
        let mut tries = seen.iter().filter(|seen| is_attempt(&seen.call) && seen.call.place.name == *name);
        tries.nth(4).map(|seen| seen.at)
    };
    let times: BTreeSet<Instant> = names.iter().filter_map(fifth).collect();
    let (first, last) = (*times.first().unwrap(), *times.last().unwrap());
    assert!(times.len() > 10 && last - first > Duration::from_secs(1), "{times:?}");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_be_read_holds_up_no_other() {
    // As an API server with a newer definition has it.
    let newer = |objects: &mut Objects| {
        let patch = json!({"spec": {"transport": "carrier-pigeon"}});
        objects.merge(cluster("many-3"), &patch).unwrap();
    };
    let (server, names) = with_many(5);
    server.change(newer);
    let world = World::on(server, 4);
    for name in names.iter().filter(|name| *name != "many-3") {
        world.until_done(name).await;
    }
    let patch = json!({"spec": {"transport": "dual"}});
    world.server.change(|objects| drop(objects.merge(cluster("many-3"), &patch).unwrap()));
    world.until_done("many-3").await;
    world.server.change(newer);
    world.is_quiet().await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_nobody_answers_holds_up_no_other_and_no_end() {
    let (server, names) = with_many(5);
    server.fail(1, Fault::Silence, |call| call.is(Verb::Apply, "services", "many-2-gateway"));
    let world = World::on(server, 2);
    let begun = Instant::now();
    for name in names.iter().filter(|name| *name != "many-2") {
        world.until_done(name).await;
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    world.until_done("many-2").await;
    world.is_quiet().await;
    world.server.fail(1, Fault::Silence, |call| call.is(Verb::Get, "shardclusters", "many-4"));
    make(&world.server, "many-4", 2);
    world.until("it is asked", |server| server.lock().seen.last().is_some_and(|seen| seen.code == 0)).await;
    world.stop().await;
}
