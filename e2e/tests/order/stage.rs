//! Makes events happen: pods as controllers and kubelets would make them, and the gateway's answers, which a real one has given.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use shard_e2e::until;
use shard_wire::layers::LayerRange;
use shard_wire::pipeline::{Download, PipelineStatus};

use super::SHARDS;
use super::state::{Event, Replica, State};
use crate::fixture::Fleet;

const NOBODY: &str = include_str!("../../recorded/nobody.json");
const NO_SHARDS: &str = include_str!("../../recorded/no-shards.json");
const COMPLETE: &str = include_str!("../../recorded/complete.json");

const BOOTSTRAP: &str = "tiny-bootstrap-0";
const GATEWAY: &str = "tiny-gateway-x-y";
/// Until a pod is let go, it is only on its way out.
const HOLD: &str = "shardcluster.io/e2e";

pub(crate) async fn perform(fleet: &Fleet, event: Event, state: &State) {
    match event {
        Event::BootstrapStarts => make_of_set(fleet, BOOTSTRAP).await,
        Event::BootstrapReady => set(fleet, BOOTSTRAP, ready()).await,
        Event::GatewayStarts => {
            let gateway = fleet.api::<Deployment>().get("tiny-gateway").await.unwrap();
            let owner =
                json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "tiny-gateway-x", "uid": "x"});
            make(fleet, GATEWAY, gateway.spec.unwrap().template, owner).await;
        }
        Event::GatewayReady => set(fleet, GATEWAY, ready()).await,
        Event::GatewayGoes => delete(fleet, GATEWAY).await,
        Event::GatewayLost => let_go(fleet, GATEWAY).await,
        Event::PodStarts(id) => {
            make_of_set(fleet, &pod(id)).await;
            set(fleet, &pod(id), waiting("ContainerCreating")).await;
        }
        Event::PullFails(id) => set(fleet, &pod(id), waiting("ErrImagePull")).await,
        Event::PullPauses(id) => set(fleet, &pod(id), waiting("ImagePullBackOff")).await,
        Event::PodReady(id) => set(fleet, &pod(id), ready()).await,
        Event::PodGoes(id) => delete(fleet, &pod(id)).await,
        Event::PodLost(id) => let_go(fleet, &pod(id)).await,
        Event::ManifestKnown | Event::Downloads(_) | Event::Loads(_) | Event::Misses(_) | Event::Proves => {
            fleet.gateway_says(answer(state));
        }
    }
}

/// An answer that a gateway gave, with all that one gives now: else it is to be recorded anew.
fn recorded(text: &str) -> PipelineStatus {
    let fields = |value: &Value| {
        let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        [names(value), names(&value["origin"]), names(&value["probe"])]
    };
    let answer: PipelineStatus = serde_json::from_str(text).unwrap();
    assert_eq!(fields(&serde_json::from_str(text).unwrap()), fields(&json!(answer)), "a field is new");
    answer
}

/// What a gateway says in a state.
pub(crate) fn answer(state: &State) -> PipelineStatus {
    if !state.manifest {
        return recorded(NOBODY);
    }
    let whole = recorded(COMPLETE);
    if state.proved {
        return whole;
    }
    let mut answer = recorded(NO_SHARDS);
    answer.missing_layers.clear();
    for (id, (shard, known)) in answer.shards.iter_mut().zip(whole.shards).enumerate() {
        let mut replica = known.replicas[0].clone();
        match state.replicas[id] {
            Replica::None => {}
            Replica::Downloading => {
                replica.loaded = false;
                replica.download = Download { percent: 40.0, bytes_per_s: 63_819, peers: 1 };
                shard.replicas = vec![replica];
            }
            Replica::Loaded => {
                shard.online = true;
                shard.replicas = vec![replica];
                continue;
            }
            Replica::Offline => {
                replica.online = false;
                shard.replicas = vec![replica];
            }
        }
        let LayerRange { start, end } = shard.layers;
        match answer.missing_layers.last_mut() {
            Some(gap) if gap.end == start => gap.end = end,
            _ => answer.missing_layers.push(LayerRange { start, end }),
        }
    }
    answer
}

fn pod(id: u32) -> String {
    assert!(id < SHARDS);
    format!("tiny-shard-{id}-0")
}

/// As soon as its StatefulSet is to have pods.
async fn make_of_set(fleet: &Fleet, name: &str) {
    let (set, _) = name.rsplit_once('-').unwrap();
    let set = until(&format!("{set} is to have a pod"), || async {
        let set = fleet.api::<StatefulSet>().get_opt(set).await.unwrap()?;
        (set.spec.as_ref()?.replicas == Some(1)).then_some(set)
    })
    .await;
    let owner = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "controller": true,
        "name": set.name_any(), "uid": set.uid().unwrap(),
    });
    make(fleet, name, set.spec.unwrap().template, owner).await;
}

async fn make(fleet: &Fleet, name: &str, template: PodTemplateSpec, owner: Value) {
    let mut pod = Pod { metadata: template.metadata.unwrap(), spec: template.spec, ..Pod::default() };
    pod.metadata.name = Some(name.to_owned());
    pod.metadata.finalizers = Some(vec![HOLD.to_owned()]);
    pod.metadata.owner_references = Some(vec![serde_json::from_value(owner).unwrap()]);
    fleet.api::<Pod>().create(&PostParams::default(), &pod).await.unwrap();
}

async fn set(fleet: &Fleet, name: &str, status: Value) {
    let status = Patch::Merge(json!({"status": status}));
    fleet.api::<Pod>().patch_status(name, &PatchParams::default(), &status).await.unwrap();
}

async fn delete(fleet: &Fleet, name: &str) {
    let at_once = DeleteParams::default().grace_period(0);
    fleet.api::<Pod>().delete(name, &at_once).await.unwrap();
}

async fn let_go(fleet: &Fleet, name: &str) {
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    fleet.api::<Pod>().patch(name, &PatchParams::default(), &free).await.unwrap();
}

fn ready() -> Value {
    json!({
        "phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}],
        "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}],
        "containerStatuses": null,
    })
}

fn waiting(reason: &str) -> Value {
    json!({
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "False"}],
        "containerStatuses": [{
            "name": "node", "image": "shardcluster/node:test", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": reason, "message": "the registry does not know it"}},
        }],
    })
}
