//! Watches that end, and what they do not tell of.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::call::{Call, Verb};
use crate::objects::Objects;
use crate::server::{Cut, Fault, Server};
use crate::world::{Shape, World, at, changes, cluster, difference, shape};

const CUTS: [Cut; 5] = [Cut::End, Cut::Broken, Cut::Gone, Cut::Garbage, Cut::Silence];

const KINDS: [&str; 10] = [
    "shardclusters",
    "serviceaccounts",
    "services",
    "statefulsets",
    "deployments",
    "poddisruptionbudgets",
    "networkpolicies",
    "persistentvolumeclaims",
    "pods",
    "nodes",
];

type Deed = fn(&mut Objects);

/// What somebody does while a watch of this kind does not tell of it.
const DEEDS: [(&str, Deed); 3] = [
    ("services", |objects| {
        let patch = json!({"spec": {"ports": [{"name": "http", "port": 81}]}});
        objects.merge(at("services", "tiny-gateway"), &patch).unwrap();
    }),
    ("statefulsets", |objects| drop(objects.delete(&at("statefulsets", "tiny-shard-1")).unwrap())),
    ("networkpolicies", |objects| {
        let patch = json!({"spec": {"ingress": [{}]}});
        objects.merge(at("networkpolicies", "tiny-shard"), &patch).unwrap();
    }),
];

fn is_watch(call: &Call) -> bool {
    matches!(call.verb, Verb::Watch | Verb::List)
}

#[tokio::test(start_paused = true)]
async fn what_happens_while_a_watch_is_down_is_seen_when_it_is_up_again() {
    let wanted = crate::calm().await;
    for cut in CUTS {
        for (kind, deed) in DEEDS {
            let told = format!("{kind}: {cut:?}");
            let world = World::with_tiny();
            world.until_done("tiny").await;
            world.is_quiet().await;
            let before = changes(&world.server);
            world.server.cut(kind, cut, deed);
            world.until(&told, |server| is_as_wanted(server, &wanted)).await;
            world.is_quiet().await;
            let after = changes(&world.server);
            let written: usize = after.values().sum::<usize>() - before.values().sum::<usize>();
            assert!(written == 1, "{told}: only what was not as it should be: {written}");
            world.stop().await;
        }
    }
}

fn is_as_wanted(server: &Server, wanted: &Shape) -> bool {
    // The generation tells that somebody was there, and that is all.
    let specs = |shape: &Shape| {
        let mut shape = shape.clone();
        shape.values_mut().for_each(|object| drop(object["metadata"]["generation"].take()));
        shape
    };
    difference(&specs(&shape(server)), &specs(wanted)).is_empty()
}

#[tokio::test(start_paused = true)]
async fn a_spec_that_changes_while_the_watch_is_down_is_carried_out() {
    for cut in CUTS {
        let world = World::with_tiny();
        world.until_done("tiny").await;
        world.is_quiet().await;
        world.server.cut("shardclusters", cut, |objects| {
            objects.merge(cluster("tiny"), &json!({"spec": {"shards": {"count": 3}}})).unwrap();
        });
        let new = at("statefulsets", "tiny-shard-2");
        world.until(&format!("{cut:?}"), |server| server.lock().objects.get(&new).is_ok()).await;
        world.until_done("tiny").await;
        world.is_quiet().await;
        world.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn watches_that_are_refused_for_a_while_are_not_asked_for_in_a_storm() {
    let refusals = [
        Fault::Code(410, "Expired"),
        Fault::Code(403, "Forbidden"),
        Fault::Code(500, "InternalError"),
        Fault::Busy(1),
        Fault::Unreachable,
        Fault::Garbage,
    ];
    for fault in refusals {
        let world = World::with_tiny();
        world.until_done("tiny").await;
        world.server.fail(usize::MAX, fault, is_watch);
        let before = world.server.lock().seen.len();
        for kind in ["services", "shardclusters", "pods", "nodes"] {
            world.server.cut(kind, Cut::Broken, |_| {});
        }
        world.server.change(|objects| DEEDS[0].1(objects));
        sleep(Duration::from_secs(600)).await;
        let asked = world.server.lock().seen[before..].iter().filter(|seen| is_watch(&seen.call)).count();
        assert!((40..1000).contains(&asked), "{fault:?}: {asked} in ten minutes, for ten kinds");
        world.server.heal();
        world.is_quiet().await;
        assert!(is_mended(&world.server), "{fault:?}");
        world.stop().await;
    }
}

/// Of the ten kinds.
fn watches(server: &Server) -> usize {
    server.lock().seen.iter().filter(|seen| seen.call.verb == Verb::Watch).count()
}

#[tokio::test(start_paused = true)]
async fn watches_that_end_at_once_are_not_opened_in_a_storm_and_news_comes_soon() {
    // More than ten minutes may bring: then they last, so that a storm ends.
    const STORM: usize = 20_000;
    let world = World::with_tiny();
    world.until_done("tiny").await;
    world.is_quiet().await;
    world.server.end_watches(STORM, Duration::ZERO);
    for kind in KINDS {
        world.server.cut(kind, Cut::End, |_| {});
    }
    let before = watches(&world.server);
    sleep(Duration::from_secs(600)).await;
    let opened = watches(&world.server) - before;
    assert!((600..1400).contains(&opened), "{opened} in ten minutes, for ten kinds");

    let begun = Instant::now();
    world.server.change(|objects| DEEDS[0].1(objects));
    world.until("it is mended", is_mended).await;
    assert!(begun.elapsed() <= Duration::from_secs(6), "{:?}", begun.elapsed());

    // Those that last a while are opened again at once.
    world.server.end_watches(usize::MAX, Duration::from_secs(10));
    sleep(Duration::from_secs(60)).await;
    for _ in 0..40 {
        // So seldom it is no contest, and each time at another moment of the watches.
        sleep(Duration::from_millis(601_300)).await;
        let begun = Instant::now();
        world.server.change(|objects| DEEDS[0].1(objects));
        world.until("it is mended", is_mended).await;
        assert!(begun.elapsed() <= Duration::from_secs(1), "{:?}", begun.elapsed());
    }
    world.is_quiet().await;
    world.stop().await;
}

fn is_mended(server: &Server) -> bool {
    let state = server.lock();
    state.objects.get(&at("services", "tiny-gateway")).unwrap()["spec"]["ports"][0]["port"] == 8080
}
