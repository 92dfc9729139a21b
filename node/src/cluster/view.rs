//! One moment of a cluster, by plans.

use std::collections::{BTreeMap, BTreeSet};

use libp2p::{Multiaddr, PeerId};
use shard_wire::announce::{ReplicaState, ShardInfo};
use shard_wire::layers::{LayerRange, gaps};
use shard_wire::pipeline::Download;

/// One shard on one node.
#[derive(Clone, Debug, PartialEq)]
pub struct Replica {
    /// The node.
    pub peer: PeerId,
    /// Start of its process, milliseconds since the Unix epoch.
    pub incarnation: u64,
    /// Where it says it is.
    pub addresses: Vec<Multiaddr>,
    /// It is connected.
    pub connected: bool,
    /// What it serves.
    pub shard: ShardInfo,
}

impl Replica {
    /// It is connected and takes sessions.
    pub fn serves(&self) -> bool {
        self.connected && self.shard.serves()
    }
}

/// One moment of a cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterView {
    /// Every replica that has not left, in the order of shards and peers.
    pub replicas: Vec<Replica>,
    /// The plan with the fewest layers missing; `None` until an announcement names one.
    pub plan: Option<PlanView>,
    /// Every other plan that is announced.
    pub others: Vec<PlanView>,
}

/// How far a plan is covered.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanView {
    /// Its short name.
    pub name: String,
    /// Name of the model.
    pub model_name: String,
    /// Hex SHA-256 of the model.
    pub model_sha256: String,
    /// Layers of the model.
    pub total_layers: u32,
    /// One entry for each shard, in order.
    pub shards: Vec<ShardView>,
    /// Layers that nobody serves now.
    pub missing: Vec<LayerRange>,
}

/// One shard of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardView {
    /// Its layers, as most of its replicas say; `None` while there is no replica.
    pub layers: Option<LayerRange>,
    /// Replicas that are connected and take sessions.
    pub serving: Vec<PeerId>,
    /// The best of its replicas that do not serve.
    pub behind: Option<Behind>,
}

/// How far a replica is that does not serve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Behind {
    /// What it is doing.
    pub state: ReplicaState,
    /// It is connected.
    pub connected: bool,
    /// How far its download is.
    pub download: Option<Download>,
}

/// What all replicas of one plan agree on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Plan {
    name: String,
    model_sha256: String,
    total_layers: u32,
    total_shards: u32,
}

impl Plan {
    fn of(shard: &ShardInfo) -> Option<Self> {
        (shard.total_shards > 0).then(|| Self {
            name: shard.plan.clone(),
            model_sha256: shard.model_sha256.clone(),
            total_layers: shard.total_layers,
            total_shards: shard.total_shards,
        })
    }
}

impl ClusterView {
    pub(super) fn new(mut replicas: Vec<Replica>) -> Self {
        replicas.sort_by_key(|replica| (replica.shard.shard_id, replica.peer));
        let mut plans: BTreeMap<Plan, Vec<&Replica>> = BTreeMap::new();
        for replica in &replicas {
            if let Some(plan) = Plan::of(&replica.shard) {
                plans.entry(plan).or_default().push(replica);
            }
        }
        let views =
            plans.into_iter().map(|(plan, replicas)| (replicas.len(), PlanView::new(plan, &replicas)));
        let mut views: Vec<_> = views.collect();
        views.sort_by_key(|(replicas, plan)| (plan.lacks(), std::cmp::Reverse(*replicas)));
        let mut views = views.into_iter().map(|(_, plan)| plan);
        Self { plan: views.next(), others: views.collect(), replicas }
    }

    /// Every plan that is announced, the nearest to complete first.
    pub fn plans(&self) -> impl Iterator<Item = &PlanView> {
        self.plan.iter().chain(&self.others)
    }

    /// As seen by who serves this plan.
    #[must_use]
    pub fn of(&self, plan: &str) -> Self {
        let mut others: Vec<PlanView> = self.plans().cloned().collect();
        let place = others.iter().position(|view| view.name == plan);
        Self { replicas: self.replicas.clone(), plan: place.map(|place| others.remove(place)), others }
    }

    /// One plan is fully covered.
    pub fn complete(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.missing.is_empty())
    }

    /// Shards of the plan that nobody serves; without a plan, those that somebody will.
    pub fn lacking(&self) -> Vec<u32> {
        let Some(plan) = &self.plan else {
            let ids: BTreeSet<u32> = self.replicas.iter().map(|replica| replica.shard.shard_id).collect();
            return ids.into_iter().collect();
        };
        (0..).zip(&plan.shards).filter(|(_, shard)| shard.serving.is_empty()).map(|(id, _)| id).collect()
    }

    /// Replicas that are connected and take sessions, of all plans.
    pub fn serving(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.iter().filter(|replica| replica.serves())
    }

    /// What is missing and why, shard by shard; empty when nothing is.
    pub fn reason(&self) -> String {
        self.plan.as_ref().map_or_else(|| "no shard has announced itself".to_owned(), PlanView::reason)
    }
}

impl PlanView {
    /// Layers that nobody serves now.
    pub fn lacks(&self) -> u32 {
        self.missing.iter().map(|range| range.end - range.start).sum()
    }

    /// What is missing and why, shard by shard; empty when nothing is.
    pub fn reason(&self) -> String {
        let missing = self.shards.iter().enumerate().filter(|(_, shard)| shard.serving.is_empty());
        let reasons: Vec<String> =
            missing.map(|(id, shard)| format!("shard {id} {}", shard.reason())).collect();
        if reasons.is_empty() && !self.missing.is_empty() {
            return format!("the shards of plan {} leave layers out", self.name);
        }
        reasons.join("; ")
    }

    fn new(plan: Plan, replicas: &[&Replica]) -> Self {
        let shards: Vec<ShardView> = (0..plan.total_shards)
            .map(|id| {
                let theirs: Vec<_> =
                    replicas.iter().filter(|replica| replica.shard.shard_id == id).copied().collect();
                ShardView::new(&theirs)
            })
            .collect();
        let served = shards.iter().filter(|shard| !shard.serving.is_empty()).filter_map(|shard| shard.layers);
        // A node that fetches its file does not know the name yet.
        let mut names = replicas.iter().map(|replica| &replica.shard.model_name);
        Self {
            missing: gaps(served, plan.total_layers),
            name: plan.name,
            model_name: names.find(|name| !name.is_empty()).cloned().unwrap_or_default(),
            model_sha256: plan.model_sha256,
            total_layers: plan.total_layers,
            shards,
        }
    }
}

impl ShardView {
    fn new(replicas: &[&Replica]) -> Self {
        let mut votes: BTreeMap<LayerRange, usize> = BTreeMap::new();
        for replica in replicas {
            *votes.entry(replica.shard.layers).or_default() += 1;
        }
        let layers = votes.into_iter().max_by_key(|(_, count)| *count).map(|(layers, _)| layers);
        let agreeing = || replicas.iter().filter(|replica| Some(replica.shard.layers) == layers);
        Self {
            layers,
            serving: agreeing().filter(|replica| replica.serves()).map(|replica| replica.peer).collect(),
            behind: agreeing()
                .filter(|replica| !replica.serves())
                .max_by_key(|replica| (replica.connected, replica.shard.state as u8))
                .map(|replica| Behind {
                    state: replica.shard.state,
                    connected: replica.connected,
                    download: replica.shard.download,
                }),
        }
    }

    fn reason(&self) -> String {
        let layers = self
            .layers
            .map(|layers| format!("(layers {}-{}) ", layers.start, layers.end))
            .unwrap_or_default();
        let why = self.behind.map_or_else(|| "has no replica".to_owned(), Behind::reason);
        format!("{layers}{why}")
    }
}

impl Behind {
    fn reason(self) -> String {
        let Self { state, connected, download } = self;
        match (state, download) {
            _ if !connected => "is offline".into(),
            (ReplicaState::Joining, _) => "has joined and has no weights yet".into(),
            (ReplicaState::Downloading, Some(Download { percent, peers, .. })) => {
                let from = if peers == 1 { "peer" } else { "peers" };
                format!("is downloading, {percent:.0} %, from {peers} {from}")
            }
            (ReplicaState::Downloading, None) => "is downloading".into(),
            (ReplicaState::Loading, _) => "is loading".into(),
            (ReplicaState::Ready, _) => "is not loaded".into(),
            (ReplicaState::Leaving | ReplicaState::Left, _) => "is leaving".into(),
        }
    }
}
