//! The object of `GET /api/v1/pipeline`, from a view and what the gateway alone knows.

use std::collections::HashMap;
use std::time::Duration;

use libp2p::PeerId;
use shard_wire::frame;
use shard_wire::layers::LayerRange;
use shard_wire::pipeline::{
    Download, ManifestSummary, NextPlan, Origin, PipelineStatus, Probe, ReplicaStatus, ShardStatus,
};

use super::view::{ClusterView, PlanView, Replica};

/// Why a plan that is served as a whole does not count as complete.
const UNPROVED: &str = "no token has gone through since the last change";

/// What the gateway knows beside the view.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The cluster.
    pub cluster: String,
    /// A token went through the plan since the view last changed.
    pub proved: bool,
    /// Replicas that a probe did not come back from, in words.
    pub failures: String,
    /// Every file of the manifest has a complete seeder.
    pub seeded: bool,
    /// How far the origin is.
    pub origin: Origin,
    /// The last probe.
    pub probe: Probe,
    /// What the manifest says.
    pub manifest: Option<ManifestFacts>,
    /// The plan that is to be served next, where it is another one.
    pub next: Option<NextFacts>,
    /// Sessions of this gateway at each peer.
    pub active: HashMap<PeerId, u32>,
    /// Last round trip to each peer.
    pub latency: HashMap<PeerId, Duration>,
}

/// What the gateway knows of the plan that is to be served next.
#[derive(Clone, Debug, Default)]
pub struct NextFacts {
    /// Its short name.
    pub plan: String,
    /// What its manifest says.
    pub manifest: Option<ManifestFacts>,
    /// Replicas that a probe did not come back from, in words.
    pub failures: String,
}

/// What the manifest of a plan says of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct ManifestFacts {
    /// The plan's short name.
    pub plan: String,
    /// Hex SHA-256 of the model.
    pub model_sha256: String,
    /// Its size.
    pub model_bytes: u64,
    /// Its layers.
    pub total_layers: u32,
    /// What the operator needs of the rest.
    pub summary: ManifestSummary,
}

/// A plan, as those that serve it say, or as its manifest does while nobody serves.
#[derive(Default)]
struct Outline {
    name: String,
    model_sha256: String,
    total_layers: u32,
    shards: usize,
    missing: Vec<LayerRange>,
}

impl Outline {
    fn of(plan: Option<&PlanView>, manifest: Option<&ManifestFacts>) -> Self {
        plan.map(Self::of_view).or_else(|| manifest.map(Self::of_manifest)).unwrap_or_default()
    }

    fn of_view(plan: &PlanView) -> Self {
        Self {
            name: plan.name.clone(),
            model_sha256: plan.model_sha256.clone(),
            total_layers: plan.total_layers,
            shards: plan.shards.len(),
            missing: plan.missing.clone(),
        }
    }

    fn of_manifest(manifest: &ManifestFacts) -> Self {
        Self {
            name: manifest.plan.clone(),
            model_sha256: manifest.model_sha256.clone(),
            total_layers: manifest.total_layers,
            shards: manifest.summary.shards.len(),
            missing: vec![LayerRange { start: 0, end: manifest.total_layers }],
        }
    }
}

impl ClusterView {
    /// The pipeline as this view and these facts say; the revision is the caller's.
    pub fn pipeline(&self, facts: &Facts) -> PipelineStatus {
        let plan = self.plan.as_ref();
        // Before any shard is announced the origin's manifest says what there is to be.
        let manifest = facts.manifest.as_ref();
        let manifest = manifest.filter(|manifest| plan.is_none_or(|plan| plan.name == manifest.plan));
        let complete = self.complete() && facts.proved;
        let Outline { name, model_sha256, total_layers, shards, missing } = Outline::of(plan, manifest);
        let shards = self.shards(shards, manifest, facts, |_| true);
        PipelineStatus {
            revision: String::new(),
            cluster: facts.cluster.clone(),
            model: plan.map(|plan| plan.model_name.clone()).unwrap_or_default(),
            model_sha256,
            model_bytes: manifest.map_or(0, |manifest| manifest.model_bytes),
            plan: name,
            total_layers,
            expected_shards: u32::try_from(shards.len()).unwrap_or(u32::MAX),
            discovered_shards: u32::try_from(self.discovered(shards.len())).unwrap_or(u32::MAX),
            pipeline_complete: complete,
            missing_layers: missing,
            swarm_ready: complete && facts.seeded,
            reason: match self.reason() {
                reason if reason.is_empty() && !facts.failures.is_empty() => facts.failures.clone(),
                reason if reason.is_empty() && !complete => UNPROVED.to_owned(),
                reason => reason,
            },
            origin: facts.origin.clone(),
            probe: facts.probe.clone(),
            manifest: manifest.map(|manifest| manifest.summary.clone()),
            shards,
            next_plan: facts.next.as_ref().map(|next| self.next(next, facts)),
            wire_version: frame::VERSION,
        }
    }

    fn next(&self, next: &NextFacts, facts: &Facts) -> NextPlan {
        let NextFacts { plan, manifest, failures } = next;
        let (view, manifest) = (self.of(plan), manifest.as_ref());
        let Outline { model_sha256, total_layers, shards, missing, .. } =
            Outline::of(view.plan.as_ref(), manifest);
        NextPlan {
            plan: plan.clone(),
            model_sha256,
            model_bytes: manifest.map_or(0, |manifest| manifest.model_bytes),
            total_layers,
            missing_layers: missing,
            reason: match view.reason() {
                reason if !reason.is_empty() => reason,
                _ if !failures.is_empty() => failures.clone(),
                _ => UNPROVED.to_owned(),
            },
            manifest: manifest.map(|manifest| manifest.summary.clone()),
            shards: view.shards(shards, manifest, facts, |replica| replica.shard.plan == *plan),
        }
    }

    fn shards(
        &self,
        count: usize,
        manifest: Option<&ManifestFacts>,
        facts: &Facts,
        of: impl Fn(&Replica) -> bool,
    ) -> Vec<ShardStatus> {
        (0..count).map(|id| self.shard(id, manifest, facts, &of)).collect()
    }

    /// One shard, with its replicas of every plan: one of another plan is why this one may be short of replicas.
    fn shard(
        &self,
        id: usize,
        manifest: Option<&ManifestFacts>,
        facts: &Facts,
        of: impl Fn(&Replica) -> bool,
    ) -> ShardStatus {
        let view = self.plan.as_ref().and_then(|plan| plan.shards.get(id));
        let replicas = self.replicas.iter().filter(|replica| replica.shard.shard_id as usize == id);
        ShardStatus {
            shard_id: u32::try_from(id).unwrap_or(u32::MAX),
            layers: view
                .and_then(|view| view.layers)
                .or_else(|| manifest_layers(manifest?, id))
                .unwrap_or_default(),
            online: view.is_some_and(|view| !view.serving.is_empty()),
            replicas: replicas.filter(|replica| of(replica)).map(|replica| status(replica, facts)).collect(),
        }
    }

    fn discovered(&self, shards: usize) -> usize {
        let online = |id: &usize| {
            self.replicas.iter().any(|replica| replica.connected && replica.shard.shard_id as usize == *id)
        };
        (0..shards).filter(online).count()
    }
}

fn manifest_layers(manifest: &ManifestFacts, id: usize) -> Option<LayerRange> {
    manifest.summary.shards.get(id).map(|shard| LayerRange { start: shard.start, end: shard.end })
}

fn status(replica: &Replica, facts: &Facts) -> ReplicaStatus {
    let loaded = replica.shard.capabilities.shard_loaded;
    ReplicaStatus {
        peer_id: replica.peer.to_string(),
        incarnation: replica.incarnation,
        plan: replica.shard.plan.clone(),
        addresses: replica.addresses.iter().map(ToString::to_string).collect(),
        online: replica.connected,
        loaded,
        download: match replica.shard.download {
            Some(download) if !loaded => download,
            _ => Download { percent: if loaded { 100.0 } else { 0.0 }, ..Download::default() },
        },
        active_requests: facts.active.get(&replica.peer).copied().unwrap_or(0),
        latency_ms: facts.latency.get(&replica.peer).map_or(0.0, |rtt| rtt.as_secs_f32() * 1000.0),
    }
}
