//! Operators that begin, that are killed, and that are two.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::call::{Call, Verb};
use crate::objects::Place;
use crate::server::{Fault, Server};
use crate::world::{World, at, check_written_once, cluster, difference, shape, writes};

fn of_kind(kind: &'static str) -> impl Fn(&Call) -> bool {
    move |call| call.verb == Verb::List && call.place.kind == kind
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_before_all_that_is_there_is_known() {
    let kinds = ["services", "statefulsets", "pods", "nodes"];
    let faults = [
        Fault::Code(500, "InternalError"),
        Fault::Code(403, "Forbidden"),
        Fault::Code(410, "Expired"),
        Fault::Busy(1),
        Fault::Unreachable,
        Fault::Garbage,
        Fault::Silence,
    ];
    for kind in kinds {
        for fault in faults {
            let told = format!("{kind}: {fault:?}");
            let first = World::with_tiny();
            first.until_done("tiny").await;
            first.is_quiet().await;
            let (server, before) = (first.server.clone(), writes(&first.server));
            first.stop().await;
            server.fail(usize::MAX, fault, of_kind(kind));
            let second = World::on(server, 4);
            sleep(Duration::from_secs(1800)).await;
            assert_eq!(writes(&second.server), before, "{told}");
            second.server.heal();
            second.until("the operator looks", looks).await;
            second.is_quiet().await;
            assert_eq!(writes(&second.server), before, "{told}: all was there");
            second.stop().await;
        }
    }
}

/// The last request is no list that failed.
fn looks(server: &Server) -> bool {
    let state = server.lock();
    state.seen.last().is_some_and(|seen| seen.call.is(Verb::Get, "secrets", "tiny-operator-key"))
}

#[tokio::test(start_paused = true)]
async fn killed_after_any_request_another_one_ends_it() {
    let wanted = crate::calm().await;
    let mut requests = 1;
    loop {
        let first = World::with_tiny();
        let done = || at("deployments", "tiny-gateway");
        first.until("so many requests", |server| server.lock().seen.len() >= requests).await;
        let server = first.server.clone();
        first.kill().await;
        let is_over = server.lock().objects.get(&done()).is_ok();
        let keys = keys(&server);
        let second = World::on(server, 4);
        second.until_done("tiny").await;
        second.is_quiet().await;
        let differs = difference(&shape(&second.server), &wanted);
        assert!(differs.is_empty(), "after {requests} requests: {differs}");
        for (place, data) in keys {
            assert_eq!(
                second.server.lock().objects.get(&place).unwrap()["data"],
                data,
                "keys stay: {place:?}"
            );
        }
        check_written_once(&second.server, &format!("after {requests} requests"));
        second.stop().await;
        if is_over {
            break;
        }
        requests += 1;
    }
    assert!(requests > 30, "it was killed in the middle, too: {requests}");
}

fn keys(server: &Server) -> Vec<(Place, Value)> {
    let state = server.lock();
    let secrets = state.objects.all().filter(|(place, _)| place.kind == "secrets");
    secrets.map(|(place, secret)| (place.clone(), secret["data"].clone())).collect()
}

#[tokio::test(start_paused = true)]
async fn two_at_once_do_not_fight() {
    let wanted = crate::calm().await;
    let one = World::with_tiny();
    let other = World::on(one.server.clone(), 4);
    one.until_done("tiny").await;
    one.is_quiet().await;
    let differs = difference(&shape(&one.server), &wanted);
    assert!(differs.is_empty(), "{differs}");
    one.server.change(|objects| {
        objects.merge(cluster("tiny"), &json!({"spec": {"shards": {"count": 3}}})).unwrap();
    });
    one.until_done("tiny").await;
    one.is_quiet().await;
    assert!(one.server.lock().objects.get(&at("statefulsets", "tiny-shard-2")).is_ok());
    one.stop().await;
    other.stop().await;
}
