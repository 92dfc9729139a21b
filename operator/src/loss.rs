//! Pods that a lost node holds on to: a StatefulSet makes a pod anew only when the old one is gone, and who would say so
//! is the node. Pure: what was seen and the time in; what is to go, and when to look again, out.
//!
//! ```text
//!  pod on a node that is silent, or gone              ─▶ since when ─┬▶ nodeLossSeconds later: the pod goes
//!  pod that fits no node, its volume is on such nodes ─▶ since when ─┴▶ and with it the claim, unless it is to be kept
//! ```
//! That a pod goes by force is safe, though it may still run: it holds nothing but weights, and sessions are fenced. The
//! claim waits until the pod has come back without a node: then it is in nobody's use, and a pod that is not to come back
//! takes no claim along. When most nodes are lost nothing goes: see [`crate::nodes`].

mod volume;

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, PodCondition};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::cluster::Cluster;
use crate::crd::Reason;
use crate::nodes::{Nodes, Standing};
use crate::observe::Observed;
use crate::pods::{Problem, claims_of, is_forced, is_replaced, scheduled, unschedulable};

/// What is to be done about lost nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// What is to go now.
    pub evictions: Vec<Eviction>,
    /// When the next one is due.
    pub next: Option<Timestamp>,
}

/// A pod that goes, by force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// Itself.
    pub pod: Target,
    /// What goes before it, so that the next pod does not take it over: empty where its node is lost, not its volume.
    pub claims: Vec<Target>,
    /// The node that holds it.
    pub node: String,
    /// How it stands with the node.
    pub standing: Standing,
}

/// One object, and no other that has its name later.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of an object's metadata")]
pub struct Target {
    pub name: String,
    pub uid: String,
}

impl Loss {
    /// Time until the next one is due.
    #[must_use]
    pub fn wait(&self, now: Timestamp) -> Option<Duration> {
        Duration::try_from(self.next?.duration_since(now)).ok()
    }
}

/// What is lost at this time.
#[must_use]
pub fn loss(cluster: &Cluster, observed: &Observed, now: Timestamp) -> Loss {
    let scene = Scene::new(observed);
    let mut loss = Loss::default();
    if scene.nodes.cut_off() {
        return loss;
    }
    for (pod, fate) in scene.fates() {
        let keeps = fate.is_volume() && (cluster.retain_on_node_loss || cluster.suspended);
        let Some(due) = fate.due(cluster).filter(|_| !keeps && !is_forced(pod)) else { continue };
        if due > now {
            loss.next = Some(loss.next.map_or(due, |next| next.min(due)));
        } else if let Some(eviction) = fate.eviction(pod) {
            loss.evictions.push(eviction);
        }
    }
    loss
}

/// What lost nodes do to pods, by the names of the pods: in words that stay the same while nothing else happens. A node
/// that is gone may be one that is only just known to who has scheduled the pod: it is told of when it is due.
#[must_use]
pub fn causes(cluster: &Cluster, observed: &Observed, now: Timestamp) -> BTreeMap<String, Problem> {
    let scene = Scene::new(observed);
    let is_sure =
        |fate: &Fate<'_>| fate.standing != Standing::Gone || fate.due(cluster).is_some_and(|due| due <= now);
    let problem = |fate: Fate<'_>| Problem {
        reason: Reason::NodeLost,
        message: fate.words(cluster, scene.nodes.cut_off()),
    };
    let fates = scene.fates().filter(|(_, fate)| is_sure(fate));
    fates.map(|(pod, fate)| (pod.name_any(), problem(fate))).collect()
}

/// All that a pod's fate depends on.
struct Scene<'a> {
    observed: &'a Observed,
    nodes: Nodes<'a>,
}

/// What a lost node does to a pod.
struct Fate<'a> {
    node: &'a str,
    standing: Standing,
    /// From when on it is known.
    since: Timestamp,
    /// Claims whose volumes are there, of a pod that is not.
    claims: Vec<&'a PersistentVolumeClaim>,
}

impl<'a> Scene<'a> {
    fn new(observed: &'a Observed) -> Self {
        Self { observed, nodes: Nodes::new(&observed.nodes) }
    }

    /// Pods that have one.
    fn fates(&self) -> impl Iterator<Item = (&'a Pod, Fate<'a>)> {
        self.observed.pods.iter().filter_map(|pod| Some((pod, self.fate(pod)?)))
    }

    fn fate(&self, pod: &'a Pod) -> Option<Fate<'a>> {
        // Without any node, nodes may not be looked at; and of a pod by itself nobody would make another one.
        if self.observed.nodes.is_empty() || !is_replaced(pod) {
            return None;
        }
        match pod.spec.as_ref()?.node_name.as_deref() {
            Some(node) => {
                let standing = self.nodes.named(node);
                let since = since(standing, scheduled(pod), pod)?;
                Some(Fate { node, standing, since, claims: Vec::new() })
            }
            None => self.fate_of_volumes(pod),
        }
    }

    fn fate_of_volumes(&self, pod: &'a Pod) -> Option<Fate<'a>> {
        let waits = unschedulable(pod)?;
        let mut lost: Option<Fate<'a>> = None;
        for claim in claims_of(pod, &self.observed.claims) {
            let Some((node, standing)) = self.home(claim) else { continue };
            let Some(since) = since(standing, Some(waits), pod) else { continue };
            let fate = lost.get_or_insert(Fate { node, standing, since, claims: Vec::new() });
            fate.since = fate.since.max(since);
            fate.claims.push(claim);
        }
        lost
    }

    /// The node on which a claim's volume is, where it is bound to nodes.
    fn home(&self, claim: &PersistentVolumeClaim) -> Option<(&'a str, Standing)> {
        let name = claim.spec.as_ref()?.volume_name.as_deref()?;
        let volume: &PersistentVolume =
            self.observed.volumes.iter().find(|volume| volume.name_any() == name)?;
        let names = volume::nodes_of(volume, |name| self.nodes.called(name).is_some())?;
        self.nodes.best(&names)
    }
}

impl Fate<'_> {
    fn is_volume(&self) -> bool {
        !self.claims.is_empty()
    }

    /// Out of the range of times is never.
    fn due(&self, cluster: &Cluster) -> Option<Timestamp> {
        self.since.checked_add(SignedDuration::from_secs(cluster.node_loss.into())).ok()
    }

    fn eviction(&self, pod: &Pod) -> Option<Eviction> {
        let target = |name: String, uid: Option<String>| Some(Target { name, uid: uid? });
        Some(Eviction {
            pod: target(pod.name_any(), pod.uid())?,
            claims: self.claims.iter().filter_map(|claim| target(claim.name_any(), claim.uid())).collect(),
            node: self.node.to_owned(),
            standing: self.standing,
        })
    }

    /// What follows "pod NAME".
    fn words(&self, cluster: &Cluster, cut_off: bool) -> String {
        let node = match self.standing {
            Standing::Gone => format!("node {}, which is gone", self.node),
            _ => format!("node {}, which cannot be reached", self.node),
        };
        let (what, then) = if self.is_volume() {
            (format!("waits for its volume on {node}"), "gets a new one")
        } else {
            (format!("is on {node}"), "is replaced")
        };
        if cut_off {
            return format!(
                "{what}; nothing is replaced, because most nodes are like it: it may be the control plane that is cut off"
            );
        }
        if self.is_volume() && cluster.retain_on_node_loss {
            return format!("{what}: storage.retainOnNodeLoss keeps the volume");
        }
        match self.standing {
            Standing::Gone => format!("{what}; it {then}"),
            _ => format!("{what}; after {} s it {then}", cluster.node_loss),
        }
    }
}

/// A node that is gone says no time: then it is the pod's, after which a watch has had the time to tell of a new node.
fn since(standing: Standing, known: Option<&PodCondition>, pod: &Pod) -> Option<Timestamp> {
    match standing {
        Standing::Reachable => None,
        Standing::Unreachable { since } => Some(since),
        Standing::Gone => {
            let known = known.and_then(|known| known.last_transition_time.as_ref());
            known.or(pod.metadata.creation_timestamp.as_ref()).map(|time| time.0)
        }
    }
}

#[cfg(test)]
mod tests;
