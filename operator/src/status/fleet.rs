//! Pods and what a gateway says, by part of the fleet.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use shard_wire::pipeline::{ManifestShard, PipelineStatus, ReplicaStatus, ShardStatus};

use super::Refused;
use super::cause::{Cause, Trouble};
use super::obstacle;
use crate::cluster::Cluster;
use crate::crd::{LayerRange, ShardRow};
use crate::desired::Plan;
use crate::desired::meta::{COMPONENT, Part, SHARD};
use crate::observe::obstacles::Missing;
use crate::observe::{Children, GatewayView, Observed};
use crate::pods::{Problem, is_ready, problem};

/// Percentages are told in steps of this, so that a download is not a write every second.
const STEP: u32 = 5;

/// A percentage as it is told. `as` saturates: one from a peer may be anything.
pub(super) fn in_steps(percent: f32) -> u32 {
    (percent as u32).min(100) / STEP * STEP
}

/// The pods of one part.
pub(super) struct Group<'a> {
    pub(super) desired: u32,
    pub(super) pods: Vec<&'a Pod>,
    /// Why what makes its pods cannot be written.
    pub(super) unwritten: Option<&'a str>,
    /// What makes its pods, where it is not there because something else is refused; of a shard it is not told.
    pub(super) held_up: Option<String>,
    /// Why its pods cannot be created.
    pub(super) refused: Option<&'a str>,
    /// What the user has yet to make.
    missing: Option<&'a Missing>,
    lost: &'a BTreeMap<String, Problem>,
}

impl Group<'_> {
    pub(super) fn ready(&self) -> u32 {
        self.pods.iter().filter(|pod| is_ready(pod)).count() as u32
    }

    /// What is wrong with the first pod that has something wrong with it.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        let of = |pod: &&Pod| Some(Trouble { pod: pod.name_any(), problem: problem(pod, self.lost)? });
        self.pods.iter().find_map(of)
    }

    /// What keeps the pods of this part from being there, or from starting, and no pod tells of.
    pub(super) fn obstacle(&self, part: &str) -> Option<Problem> {
        let refused = |why| obstacle::refused(part, why);
        self.missing.map(obstacle::missing).or_else(|| self.refused.map(refused))
    }

    /// Where its ready pods run.
    pub(super) fn nodes(&self) -> BTreeSet<&str> {
        let ready = self.pods.iter().filter(|pod| is_ready(pod));
        ready.filter_map(|pod| pod.spec.as_ref()?.node_name.as_deref()).collect()
    }
}

/// One shard.
pub(super) struct ShardView<'a> {
    pub(super) id: u32,
    pub(super) group: Group<'a>,
    /// What the manifest says of it.
    pub(super) known: Option<&'a ManifestShard>,
    /// What a gateway says of it, as a part of the plan that is served.
    pub(super) seen: Option<&'a ShardStatus>,
    /// The same, as a part of the plan that is to be served, where that is another one.
    next: Option<&'a ShardStatus>,
    /// See [`Fleet::origin_error`].
    origin_error: Option<&'a str>,
    /// See [`Fleet::mismatch`].
    mismatch: Option<&'a str>,
}

/// Everything that runs.
pub(super) struct Fleet<'a> {
    pub(super) bootstrap: Group<'a>,
    pub(super) gateway: Group<'a>,
    pub(super) shards: Vec<ShardView<'a>>,
    pub(super) pipeline: Option<&'a PipelineStatus>,
    /// Why the origin cannot get the model.
    pub(super) origin_error: Option<&'a str>,
    /// How the model differs from what the spec says of it.
    pub(super) mismatch: Option<&'a str>,
}

/// What others have found.
#[derive(Clone, Copy)]
pub(super) struct Told<'a> {
    /// See [`crate::facts::plan`].
    pub(super) plan: Option<&'a Plan>,
    /// See [`crate::mismatch`].
    pub(super) mismatch: Option<&'a str>,
    /// See [`crate::loss::causes`].
    pub(super) lost: &'a BTreeMap<String, Problem>,
    /// What cannot be written.
    pub(super) refused: &'a [Refused],
}

impl<'a> Fleet<'a> {
    pub(super) fn new(cluster: &Cluster, observed: &'a Observed, told: Told<'a>) -> Self {
        let Told { plan, mismatch, lost, refused } = told;
        let mut groups: BTreeMap<(String, String), Vec<&'a Pod>> = BTreeMap::new();
        for pod in &observed.pods {
            let label = |key: &str| pod.labels().get(key).cloned().unwrap_or_default();
            groups.entry((label(COMPONENT), label(SHARD))).or_default().push(pod);
        }
        let mut group = |part: Part, shard: &str, desired: u32| {
            let mut pods =
                groups.remove(&(part.component().to_owned(), shard.to_owned())).unwrap_or_default();
            pods.sort_by_key(|pod| pod.name_any());
            let name = part.name(cluster);
            let obstacles = &observed.obstacles;
            Group {
                desired,
                pods,
                refused: obstacles.refused.get(&name).map(String::as_str),
                missing: obstacles.missing.iter().find(|missing| missing.part == part),
                unwritten: unwritten(part, &name, refused),
                held_up: unmade(part, &name, &observed.children).filter(|_| !refused.is_empty()),
                lost,
            }
        };
        let pipeline = match &observed.gateway {
            GatewayView::Answered(pipeline) => Some(&**pipeline),
            GatewayView::NotReady | GatewayView::Asking | GatewayView::Unreachable(_) => None,
        };
        let of = |all: &'a [ShardStatus], id: u32| all.iter().find(|shard| shard.shard_id == id);
        let next = pipeline.and_then(|pipeline| pipeline.next_plan.as_ref());
        let next = next.filter(|next| plan.is_some_and(|plan| plan.name == next.plan));
        let bootstrap = group(Part::Bootstrap, "", cluster.bootstrap.replicas);
        // The word of one that is gone explains nothing.
        let error = pipeline.filter(|_| bootstrap.ready() > 0).map(|pipeline| &*pipeline.origin.error);
        let origin_error = error.filter(|error| !error.is_empty());
        Self {
            bootstrap,
            gateway: group(Part::Gateway, "", cluster.gateway.replicas),
            shards: cluster
                .shards
                .iter()
                .map(|shard| ShardView {
                    id: shard.id,
                    group: group(Part::Shard(shard.id), &shard.id.to_string(), shard.replicas),
                    known: plan.and_then(|plan| plan.shard(shard.id)),
                    seen: pipeline.and_then(|pipeline| of(&pipeline.shards, shard.id)),
                    next: next.and_then(|next| of(&next.shards, shard.id)),
                    origin_error,
                    mismatch,
                })
                .collect(),
            pipeline,
            origin_error,
            mismatch,
        }
    }
}

/// What makes a part's pods.
fn kind(part: Part) -> &'static str {
    if part == Part::Gateway { "Deployment" } else { "StatefulSet" }
}

fn unwritten<'a>(part: Part, name: &str, refused: &'a [Refused]) -> Option<&'a str> {
    let kind = kind(part);
    let its = refused.iter().find(|it| it.object.kind == kind && it.object.name == name);
    its.map(|it| &*it.why)
}

/// Kind and name of the workload of a part that has one, where it is not there.
fn unmade(part: Part, name: &str, children: &Children) -> Option<String> {
    let is_it = |meta: &ObjectMeta| meta.name.as_deref() == Some(name);
    let made = match part {
        Part::Gateway => children.deployments.iter().any(|it| is_it(&it.metadata)),
        Part::Bootstrap => children.stateful_sets.iter().any(|it| is_it(&it.metadata)),
        Part::Shard(_) | Part::Shards => return None,
    };
    (!made).then(|| format!("{} {name}", kind(part)))
}

impl Fleet<'_> {
    /// Pods of shard 0, which stand for their columns: what an autoscaler counts.
    pub(super) fn columns(&self) -> u32 {
        let first = self.shards.first().map(|shard| &shard.group.pods);
        let staying = first.into_iter().flatten().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        staying.count() as u32
    }
}

impl ShardView<'_> {
    pub(super) fn layers(&self) -> Option<LayerRange> {
        self.known.map(|known| LayerRange { start: known.start, end: known.end })
    }

    /// Of either plan, each once.
    fn replicas(&self) -> impl Iterator<Item = &ReplicaStatus> {
        let [seen, next] =
            [self.seen, self.next].map(|shard| shard.map(|shard| &*shard.replicas).unwrap_or_default());
        let is_told = |one: &ReplicaStatus| seen.iter().any(|other| other.peer_id == one.peer_id);
        seen.iter().chain(next.iter().filter(move |one| !is_told(one)))
    }

    /// The replica whose download is furthest, of those that are not through.
    fn downloading(&self) -> Option<(u32, &ReplicaStatus)> {
        let under_way = self.replicas().filter(|one| !one.loaded && one.download.percent < 100.0);
        let furthest = under_way.max_by(|a, b| a.download.percent.total_cmp(&b.download.percent))?;
        Some((in_steps(furthest.download.percent), furthest))
    }

    /// What its pods wait for.
    pub(super) fn waits_for(&self) -> Cause {
        if let Some(trouble) = self.group.trouble() {
            return Cause::Trouble(trouble);
        }
        if self.group.ready() > 0 {
            let is_ahead = self.next.is_some_and(|next| next.replicas.iter().any(|one| one.loaded));
            return if is_ahead { Cause::Ahead } else { Cause::Unseen };
        }
        if self.known.is_none() {
            return match (self.mismatch, self.origin_error) {
                (Some(why), _) => Cause::Mismatch(why.to_owned()),
                (None, Some(error)) => Cause::OriginFailed(error.to_owned()),
                (None, None) => Cause::ManifestUnknown,
            };
        }
        if self.group.desired == 0 {
            return Cause::NoReplicas;
        }
        if self.group.pods.is_empty() {
            return match (self.group.refused, self.group.unwritten) {
                (Some(why), _) => Cause::Refused(why.to_owned()),
                (None, Some(why)) => Cause::Unwritten(why.to_owned()),
                (None, None) => Cause::NoPods,
            };
        }
        if let Some((percent, replica)) = self.downloading() {
            return Cause::Downloading { percent: percent.into(), peers: replica.download.peers.into() };
        }
        if self.replicas().any(|one| !one.loaded) { Cause::Loading } else { Cause::Starting }
    }

    /// Its row; what only a gateway knows stays as it was while none answers.
    pub(super) fn row(&self, old: Option<&ShardRow>) -> ShardRow {
        let nodes = self.group.pods.iter().filter_map(|pod| pod.spec.as_ref()?.node_name.clone());
        let nodes: BTreeSet<String> = nodes.collect();
        let row = ShardRow {
            id: self.id,
            layers: self.layers(),
            desired_replicas: self.group.desired,
            ready_replicas: self.group.ready(),
            nodes: nodes.into_iter().collect(),
            ..ShardRow::default()
        };
        match (self.seen.or(self.next), old) {
            (None, Some(old)) => ShardRow {
                loaded_replicas: old.loaded_replicas.min(row.ready_replicas),
                peer_ids: old.peer_ids.clone(),
                ..row
            },
            _ => {
                let mut peer_ids: Vec<_> = self.replicas().map(|one| one.peer_id.clone()).collect();
                peer_ids.sort();
                ShardRow {
                    loaded_replicas: self.replicas().filter(|one| one.loaded).count() as u32,
                    download_percent: self.downloading().map(|(percent, _)| percent),
                    peer_ids,
                    ..row
                }
            }
        }
    }
}
