//! A cluster, and what is there of it; tests change a part.

use serde_json::{Value, json};
use shard_wire::layers::LayerRange as Range;
use shard_wire::pipeline::{
    Download, ManifestShard, ManifestSummary, PipelineStatus, ReplicaStatus, ShardStatus,
};

use super::super::*;
use super::waits;
use crate::nodes::NodeView;
use crate::observe::GatewayView;
use crate::observe::obstacles::Obstacles;
use crate::settings::Settings;
use crate::validate::validate;
use crate::watch::as_kept;

/// Of each shard.
const LAYERS: u32 = 2;

/// A cluster, and what is there of it.
pub(super) struct Scene {
    pub(super) resource: Value,
    pub(super) pods: Vec<Value>,
    pub(super) gateway: GatewayView,
    pub(super) nodes: Vec<NodeView>,
    pub(super) rollout: Rollout,
    pub(super) outcome: Outcome,
    pub(super) obstacles: Obstacles,
}

/// Two shards, and all that is there works.
pub(super) fn running() -> Scene {
    running_with(2)
}

/// So many shards, of two pods each.
pub(super) fn running_with(shards: u32) -> Scene {
    let shard_pods = (0..shards).map(|id| ("shard", id.to_string(), 2));
    let pods = [("bootstrap", String::new(), 1), ("gateway", String::new(), 1)].into_iter().chain(shard_pods);
    Scene {
        resource: json!({
            "apiVersion": "shardcluster.io/v1alpha1", "kind": "ShardCluster",
            "metadata": {"name": "llama", "namespace": "llm", "uid": "1", "generation": 7},
            "spec": {"model": {"name": "m", "source": {"builtin": {}}}, "shards": {"count": shards, "replicas": 2}},
        }),
        pods: pods
            .flat_map(|(part, shard, count)| (0..count).map(move |n| ready_pod(part, &shard, n)))
            .collect(),
        gateway: GatewayView::Answered(Box::new(pipeline(shards))),
        nodes: Vec::new(),
        rollout: Rollout::Done,
        outcome: Outcome::default(),
        obstacles: Obstacles::default(),
    }
}

fn ready_pod(component: &str, shard: &str, ordinal: u32) -> Value {
    json!({
        "metadata": {
            "name": format!("llama-{component}{}{shard}-{ordinal}", if shard.is_empty() { "" } else { "-" }),
            "labels": {"app.kubernetes.io/component": component, "shardcluster.io/shard": shard},
        },
        "spec": {"nodeName": format!("node-{ordinal}"), "containers": [{"name": "c", "resources": {"limits": {"memory": "1Gi"}}}]},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    })
}

fn pipeline(shards: u32) -> PipelineStatus {
    let replica = |id: u32, ordinal| ReplicaStatus {
        peer_id: format!("peer-{id}-{ordinal}"),
        loaded: true,
        download: Download { percent: 100.0, ..Download::default() },
        ..ReplicaStatus::default()
    };
    let layers = |id: u32| (id * LAYERS, (id + 1) * LAYERS);
    let manifest = (0..shards).map(|id| ManifestShard {
        shard_id: id,
        start: layers(id).0,
        end: layers(id).1,
        weight_bytes: 100 << 20,
        kv_bytes_per_token: 1024,
    });
    PipelineStatus {
        plan: "p1".into(),
        model_sha256: "ab".into(),
        model_bytes: 5,
        total_layers: shards * LAYERS,
        pipeline_complete: true,
        swarm_ready: true,
        manifest: Some(ManifestSummary { shards: manifest.collect(), ..ManifestSummary::default() }),
        shards: (0..shards)
            .map(|id| ShardStatus {
                shard_id: id,
                layers: Range { start: layers(id).0, end: layers(id).1 },
                online: true,
                replicas: (0..2).map(|ordinal| replica(id, ordinal)).collect(),
            })
            .collect(),
        ..PipelineStatus::default()
    }
}

impl Scene {
    pub(super) fn pod(&mut self, name: &str) -> &mut Value {
        self.pods.iter_mut().find(|pod| pod["metadata"]["name"] == name).unwrap()
    }

    /// Shard 1 has one pod, which is not ready, for this reason.
    pub(super) fn shard_1_has(&mut self, status: &Value) {
        self.shard_has(1, status);
    }

    /// The same of any shard; those that miss go by their ids.
    pub(super) fn shard_has(&mut self, id: u32, status: &Value) {
        self.pods.retain(|pod| pod["metadata"]["name"] != format!("llama-shard-{id}-1"));
        self.pod(&format!("llama-shard-{id}-0"))["status"] = status.clone();
        self.sees(|seen| {
            seen.pipeline_complete = false;
            let (start, end) = (id * LAYERS, (id + 1) * LAYERS);
            match seen.missing_layers.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => seen.missing_layers.push(Range { start, end }),
            }
            seen.shards[id as usize].replicas.clear();
        });
    }

    /// A gateway sees how far the download of a shard's pod is.
    pub(super) fn shard_downloads(&mut self, id: u32, percent: f32, peers: u32) {
        self.shard_has(id, &json!({}));
        let download = Download { percent, peers, ..Download::default() };
        let replica = ReplicaStatus { download, ..ReplicaStatus::default() };
        self.sees(|seen| seen.shards[id as usize].replicas = vec![replica]);
    }

    /// The kubelet of `node-1` is silent, and a pod there is not ready, or on its way out.
    pub(super) fn node_1_is_lost(&mut self, pod: &str, leaves: bool) {
        let node = |name: &str, since: Option<i64>| NodeView {
            name: name.into(),
            hostname: name.into(),
            unreachable_since: since.map(|second| Timestamp::from_second(second).unwrap()),
            control_plane: false,
        };
        self.nodes = vec![node("node-0", None), node("node-1", Some(10))];
        let pod = self.pod(pod);
        pod["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "s", "uid": "s", "controller": true}]);
        if leaves {
            pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        } else {
            // What it was when the node was last heard of.
            pod["status"] = waits("ErrImagePull", "not found");
        }
    }

    pub(super) fn sees(&mut self, change: impl FnOnce(&mut PipelineStatus)) {
        let GatewayView::Answered(seen) = &mut self.gateway else { panic!("nobody answers") };
        change(seen);
    }

    /// A write of such an object.
    pub(super) fn is_refused(&mut self, kind: &str, name: &str) {
        let object = Object { kind: kind.into(), name: name.into() };
        self.outcome.refused.push(Refused { object, why: format!("cannot apply {kind} {name}: quota") });
    }

    pub(super) fn status(&self) -> ShardClusterStatus {
        self.status_at(Timestamp::from_second(1000).unwrap())
    }

    pub(super) fn status_at(&self, now: Timestamp) -> ShardClusterStatus {
        let resource: ShardCluster = serde_json::from_value(self.resource.clone()).unwrap();
        let cluster = validate(&resource, &Settings::example()).unwrap();
        let observed = Observed {
            pods: self.pods.iter().cloned().map(as_kept).collect(),
            gateway: self.gateway.clone(),
            nodes: self.nodes.clone().into(),
            obstacles: self.obstacles.clone(),
            ..Observed::nothing_of(resource)
        };
        let plan = crate::facts::plan(&cluster, &observed);
        status(&cluster, &observed, plan.as_ref(), &self.rollout, &self.outcome, now)
    }

    /// As it is after a status was written.
    pub(super) fn after(mut self, status: &ShardClusterStatus) -> Self {
        self.resource["status"] = serde_json::to_value(status).unwrap();
        self
    }
}
