//! An operator, and the API server that it works on, in time that passes only when nothing else is to be done.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use shard_operator::controller::{GatewayPort, run};
use shard_operator::settings::Settings;
use shard_operator::telemetry::Telemetry;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::call::Call;
use crate::objects::Place;
use crate::server::{Seen, Server};

pub(crate) const NAMESPACE: &str = "llm";
/// Of this world's clock, which nobody has to wait for.
const DEADLINE: Duration = Duration::from_secs(3600);
/// By then all is done that follows from the last event.
const SOON: Duration = Duration::from_secs(60);
/// By then the operator has looked at everything several times, with no event at all.
const LONG: Duration = Duration::from_secs(2 * 3600);

pub(crate) type Shape = BTreeMap<Place, Value>;

pub(crate) struct World {
    pub(crate) server: Server,
    shutdown: Option<oneshot::Sender<()>>,
    operator: JoinHandle<()>,
}

impl World {
    /// With ShardCluster `tiny` of two shards.
    pub(crate) fn with_tiny() -> Self {
        let server = Server::default();
        make(&server, "tiny", 2);
        Self::on(server, 4)
    }

    /// An operator begins to work.
    pub(crate) fn on(server: Server, concurrency: u16) -> Self {
        let settings = Settings {
            node_image: "shardcluster/node:test".into(),
            cuda_suffix: "-cuda".into(),
            auto_upgrade: false,
            namespace: "shardcluster-system".into(),
            monitoring_namespaces: Vec::new(),
            watch_namespace: None,
            concurrency,
        };
        let (shutdown, told) = oneshot::channel();
        let told = async { drop(told.await) };
        let port = GatewayPort(8080);
        let operator = tokio::spawn(run(server.client(), settings, port, Telemetry::default(), told));
        Self { server, shutdown: Some(shutdown), operator }
    }

    pub(crate) async fn until(&self, what: &str, is: impl Fn(&Server) -> bool) {
        let mut ticks = self.server.ticks();
        let found = async {
            while !is(&self.server) {
                ticks.changed().await.unwrap();
            }
        };
        let late = || panic!("not within {DEADLINE:?}: {what}\n{}", self.last());
        timeout(DEADLINE, found).await.unwrap_or_else(|_| late());
    }

    /// Everything is there, and the status says so.
    pub(crate) async fn until_done(&self, name: &str) {
        self.until("everything is there", |server| is_done(server, name)).await;
    }

    /// Nothing is written any more, whatever is looked at.
    pub(crate) async fn is_quiet(&self) {
        sleep(SOON).await;
        let before = self.server.lock().seen.len();
        sleep(LONG).await;
        let state = self.server.lock();
        let (passes, writes): (Vec<&Seen>, Vec<&Seen>) =
            state.seen[before..].iter().partition(|seen| seen.call.verb.reads());
        assert!(
            writes.is_empty(),
            "{:#?}",
            writes.iter().map(|seen| seen.call.to_string()).collect::<Vec<_>>()
        );
        assert!(!passes.is_empty(), "the operator looks at what no watch tells of");
    }

    /// It ends in time.
    pub(crate) async fn stop(mut self) {
        self.shutdown.take().unwrap().send(()).unwrap();
        let begun = Instant::now();
        timeout(DEADLINE, &mut self.operator).await.expect("it ends").expect("it has not panicked");
        let took = begun.elapsed();
        assert!(took <= Duration::from_secs(20), "Kubernetes kills a pod after 30 s, this took {took:?}");
    }

    /// As `kill -9` does.
    pub(crate) async fn kill(self) {
        self.operator.abort();
        assert!(self.operator.await.unwrap_err().is_cancelled(), "it has not panicked");
    }

    fn last(&self) -> String {
        let state = self.server.lock();
        let seen = state.seen.iter().rev().take(20);
        seen.map(|seen| format!("{:?} {:?} {:?} {}\n", seen.at, seen.call.verb, seen.call.place, seen.code))
            .collect()
    }
}

/// As a user does.
pub(crate) fn make(server: &Server, name: &str, shards: u32) {
    let place = cluster(name);
    let spec = json!({
        "apiVersion": "shardcluster.io/v1alpha1", "kind": "ShardCluster", "metadata": {"name": name},
        "spec": {
            "model": {"name": "m", "source": {"builtin": {"name": "tiny-tales"}}},
            "shards": {"count": shards},
        },
    });
    server.change(|objects| drop(objects.apply(place, "", spec).unwrap()));
}

pub(crate) fn cluster(name: &str) -> Place {
    at("shardclusters", name)
}

pub(crate) fn at(kind: &str, name: &str) -> Place {
    Place { kind: kind.into(), namespace: NAMESPACE.into(), name: name.into() }
}

/// What a condition of a ShardCluster says: its status, reason and message.
pub(crate) fn condition(server: &Server, name: &str, condition: &str) -> Option<[String; 3]> {
    let state = server.lock();
    let all = state.objects.get(&cluster(name)).ok()?["status"]["conditions"].as_array()?.clone();
    let one = all.into_iter().find(|one| one["type"] == condition)?;
    Some(["status", "reason", "message"].map(|field| one[field].as_str().unwrap().to_owned()))
}

fn is_done(server: &Server, name: &str) -> bool {
    let state = server.lock();
    let Ok(resource) = state.objects.get(&cluster(name)) else { return false };
    let told = resource["status"]["observedGeneration"] == resource["metadata"]["generation"];
    drop(state);
    // The last child of all.
    let last = at("deployments", &format!("{name}-gateway"));
    let ready = condition(server, name, "Ready");
    told && server.lock().objects.get(&last).is_ok() && ready.is_some_and(|ready| ready[1] != "ApplyFailed")
}

/// All there is, without what differs from one world to the next: keys, times, numbers of the API server's.
pub(crate) fn shape(server: &Server) -> Shape {
    let state = server.lock();
    let lasting = state.objects.all().filter(|(place, _)| place.kind != "events");
    let shaped = lasting.map(|(place, object)| {
        let mut object = object.clone();
        if place.kind == "secrets" {
            let names: Vec<&String> = object["data"].as_object().unwrap().keys().collect();
            object["data"] = json!(names);
        }
        forget(&mut object);
        (place.clone(), object)
    });
    shaped.collect()
}

fn forget(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| !["resourceVersion", "uid", "lastTransitionTime"].contains(&key.as_str()));
            // Of owners, with uids in them.
            map.retain(|key, _| key != "shardcluster.io/applied-hash");
            map.values_mut().for_each(forget);
        }
        // The name of a key.
        Value::String(text) if text.contains("/p2p/") => {
            *text = text.split("/p2p/").next().unwrap().to_owned();
        }
        Value::Array(all) => all.iter_mut().for_each(forget),
        _ => {}
    }
}

/// What differs between two shapes, in words.
pub(crate) fn difference(one: &Shape, other: &Shape) -> String {
    let differ = |place: &&Place| one.get(*place) != other.get(*place);
    let places = one.keys().chain(other.keys()).filter(differ);
    let shown = |found: Option<&Value>| found.map_or("nothing".to_owned(), Value::to_string);
    places
        .map(|place| format!("{place:?}:\n{}\n{}\n", shown(one.get(place)), shown(other.get(place))))
        .collect()
}

/// The attempts at something: the time between each and the one before.
pub(crate) fn gaps(server: &Server, matches: impl Fn(&Call) -> bool) -> Vec<Duration> {
    let state = server.lock();
    let times: Vec<Instant> =
        state.seen.iter().filter(|seen| matches(&seen.call)).map(|seen| seen.at).collect();
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// Checks that nothing was written twice.
pub(crate) fn check_written_once(server: &Server, told: &str) {
    let often: Vec<_> = changes(server).into_iter().filter(|(_, count)| *count > 1).collect();
    assert!(often.is_empty(), "{told}: {often:#?}");
}

/// Requests that were to change something, whether they did or not.
pub(crate) fn writes(server: &Server) -> Vec<String> {
    let state = server.lock();
    let writes = state.seen.iter().filter(|seen| !seen.call.verb.reads());
    writes.map(|seen| seen.call.to_string()).collect()
}

/// How often each object was changed.
pub(crate) fn changes(server: &Server) -> BTreeMap<Place, usize> {
    let mut counts = BTreeMap::new();
    let state = server.lock();
    for seen in state.seen.iter().filter(|seen| seen.changed && seen.call.place.kind != "events") {
        *counts.entry(seen.call.place.clone()).or_default() += 1;
    }
    counts
}
