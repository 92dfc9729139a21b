//! Pods and StatefulSets as a rollout sees them.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod as KubePod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::Rollout;
use super::gateway::{self, Gateway, Wire};
use crate::cluster::Cluster;
use crate::desired::meta::{PLAN, Part, template_hash};
use crate::desired::{Desired, Facts, Plan};
use crate::observe::{GatewayView, Observed};
use crate::pods::{is_ready, problem, readiness};

/// Longer than a part of a model takes to arrive: who is not ready by then is not waited for where others wait.
const LONG: SignedDuration = SignedDuration::from_hours(1);

/// What a template says of itself, and a pod of the template that it was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) hash: String,
    pub(super) plan: Option<String>,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) ordinal: u32,
    pub(super) mark: Mark,
    pub(super) ready: bool,
    /// It has a trouble that time does not heal.
    pub(super) troubled: bool,
    /// It has not been ready for longer than [`LONG`], whatever it says.
    pub(super) overdue: bool,
    /// It is on its way out.
    pub(super) going: bool,
}

/// A StatefulSet that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) mark: Mark,
    pub(super) replicas: u32,
    pub(super) partition: u32,
    /// Not all of its pods have come to its template, and have served since: its controller says so.
    pub(super) rolling: bool,
}

/// A StatefulSet as it is wanted, and what is there of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shard {
    pub(super) id: u32,
    pub(super) replicas: u32,
    pub(super) wanted: Mark,
    pub(super) live: Option<Live>,
    pub(super) pods: Vec<Pod>,
}

/// All of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fleet {
    /// The manifest of the plan that the spec asks for is known.
    pub(super) known: bool,
    /// A column more, while a new plan rolls out.
    pub(super) surge: bool,
    pub(super) bootstrap: Shard,
    /// Of the wanted image.
    pub(super) wire: Wire,
    /// Some shard has a pod of another image.
    pub(super) moves_image: bool,
    /// An origin has made the wanted plan, or nobody could tell.
    pub(super) is_made: bool,
    pub(super) gateway: Gateway,
    pub(super) shards: Vec<Shard>,
}

impl Pod {
    /// Nobody waits for it to be ready.
    pub(super) fn is_given_up(&self) -> bool {
        self.troubled || self.overdue
    }
}

impl Shard {
    /// Pods that are to stay.
    pub(super) fn members(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter().filter(|pod| pod.ordinal < self.replicas)
    }

    pub(super) fn pod(&self, ordinal: u32) -> Option<&Pod> {
        self.pods.iter().find(|pod| pod.ordinal == ordinal)
    }

    pub(super) fn is_new(&self, pod: &Pod) -> bool {
        pod.mark == self.wanted
    }

    /// The pod is there, of the wanted template, and serves.
    pub(super) fn is_moved(&self, ordinal: u32) -> bool {
        self.pod(ordinal).is_some_and(|pod| self.is_new(pod) && pod.ready)
    }

    /// All pods are there and serve, of whichever template.
    pub(super) fn is_whole(&self) -> bool {
        (0..self.replicas).all(|ordinal| self.pod(ordinal).is_some_and(|pod| pod.ready))
    }

    /// All pods are there and serve, of the wanted template.
    pub(super) fn is_settled(&self) -> bool {
        (0..self.replicas).all(|ordinal| self.is_moved(ordinal))
    }

    /// The wanted template has been written.
    pub(super) fn is_written(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.mark == self.wanted)
    }

    /// A pod that serves another plan, or did so a moment ago.
    pub(super) fn has_another_plan(&self) -> bool {
        self.members().any(|pod| pod.mark.plan != self.wanted.plan)
    }

    /// Of so many pods, those to delete so that they come back from the wanted template: those that wait for what it does
    /// not ask for any more. Since Kubernetes 1.35 a StatefulSet's controller replaces no pod while one is not ready, with
    /// `Parallel`, too: so where one is given up that is to stay as it is, the next to move.
    pub(super) fn stuck(&self, partition: u32, replicas: u32) -> Vec<u32> {
        // Before the template is written they would come back as they are.
        if !self.is_written() {
            return Vec::new();
        }
        let due = || self.pods.iter().filter(|pod| (partition..replicas).contains(&pod.ordinal));
        let waiting: Vec<u32> = due()
            .filter(|pod| !self.is_new(pod) && !pod.ready && !pod.going)
            .map(|pod| pod.ordinal)
            .collect();
        let all_serve = (partition..replicas).all(|ordinal| self.pod(ordinal).is_some_and(|pod| pod.ready));
        if all_serve && self.members().any(|pod| pod.ordinal < partition && pod.is_given_up()) {
            return due().filter(|pod| !self.is_new(pod)).map(|pod| pod.ordinal).max().into_iter().collect();
        }
        waiting
    }
}

impl Fleet {
    /// The bootstrap is as it is wanted, and it is known what the image speaks.
    pub(super) fn has_bootstrap(&self) -> bool {
        self.bootstrap.is_settled() && self.is_heard()
    }

    /// What these shards wait for while it is not so.
    pub(super) fn awaited(&self, shards: Vec<u32>) -> Rollout {
        match self.bootstrap.is_settled() {
            true => Rollout::Unheard(shards),
            false => Rollout::Bootstrap(shards),
        }
    }

    /// It is known what pods speak that are made now: those of the same image speak as they did.
    pub(super) fn is_heard(&self) -> bool {
        self.wire != Wire::Unheard || !self.moves_image
    }

    pub(super) fn new(
        cluster: &Cluster,
        facts: &Facts,
        observed: &Observed,
        desired: &Desired,
        now: Timestamp,
    ) -> Self {
        let gateway = gateway(cluster, observed, desired, now);
        let starts = starts(cluster, observed, desired);
        let wire = Wire::heard(&observed.gateway, &starts);
        // It tells at once: what nobody has heard for so long is waited for no more, for the image may be what mends that.
        let is_lost = wire == Wire::Unheard
            && starts
                .iter()
                .any(|pod| ready_since(pod).is_some_and(|since| now.duration_since(since) > LONG));
        let mut pods: BTreeMap<&str, Vec<Pod>> = BTreeMap::new();
        for pod in &observed.pods {
            if let Some((set, pod)) = read(pod, now) {
                pods.entry(set).or_default().push(pod);
            }
        }
        let mut shard = |id: u32, replicas: u32, wanted: &StatefulSet| {
            let name = wanted.name_any();
            let live = observed.children.stateful_sets.iter().find(|set| set.name_any() == name);
            Shard {
                id,
                replicas,
                wanted: mark_of(wanted),
                live: live.map(|set| Live {
                    mark: mark_of(set),
                    replicas: replicas_of(set),
                    partition: partition(set),
                    rolling: is_rolling(set),
                }),
                pods: pods.remove(&*name).unwrap_or_default(),
            }
        };
        // Where there is to be no bootstrap, or no gateway, nobody could tell.
        let is_mute = cluster.bootstrap.replicas == 0 || cluster.gateway.replicas == 0 || is_lost;
        let has_made = |plan: &Plan| matches!(&observed.gateway, GatewayView::Answered(it) if it.origin.plan == plan.name);
        Self {
            known: facts.plan.is_some(),
            surge: cluster.surge,
            bootstrap: shard(0, cluster.bootstrap.replicas, &desired.bootstrap.stateful_set),
            wire: if is_mute { Wire::Same } else { wire },
            is_made: is_mute || facts.plan.as_ref().is_some_and(has_made),
            moves_image: moves_image(observed, desired),
            gateway,
            shards: (cluster.shards.iter().zip(&desired.shards))
                .map(|(wanted, children)| shard(wanted.id, wanted.replicas, &children.stateful_set))
                .collect(),
        }
    }
}

/// A pod of a StatefulSet, and the set's name.
fn read(pod: &KubePod, now: Timestamp) -> Option<(&str, Pod)> {
    let (set, ordinal) = pod.metadata.name.as_deref()?.rsplit_once('-')?;
    Some((set, seen(pod, ordinal.parse().ok()?, now)))
}

fn seen(pod: &KubePod, ordinal: u32, now: Timestamp) -> Pod {
    let ready = is_ready(pod);
    Pod {
        ordinal,
        mark: mark(&pod.metadata),
        ready,
        troubled: problem(pod, &BTreeMap::new()).is_some(),
        overdue: !ready && unready_since(pod).is_some_and(|since| now.duration_since(since) > LONG),
        going: pod.metadata.deletion_timestamp.is_some(),
    }
}

/// Of a pod that is not ready.
fn unready_since(pod: &KubePod) -> Option<Timestamp> {
    let changed = readiness(pod).and_then(|ready| ready.last_transition_time.as_ref());
    changed.or(pod.metadata.creation_timestamp.as_ref()).map(|time| time.0)
}

/// `None` where it is not.
fn ready_since(pod: &KubePod) -> Option<Timestamp> {
    readiness(pod).filter(|ready| ready.status == "True")?.last_transition_time.as_ref().map(|time| time.0)
}

fn gateway(cluster: &Cluster, observed: &Observed, desired: &Desired, now: Timestamp) -> Gateway {
    let template = gateway::template(&desired.gateway.deployment);
    let note = |template: Option<&PodTemplateSpec>| {
        template.and_then(|template| template.metadata.as_ref()).map(mark).unwrap_or_default()
    };
    let wanted = note(template);
    let name = Part::Gateway.name(cluster);
    let live = observed.children.deployments.iter().find(|deployment| deployment.name_any() == name);
    let live = live.map(gateway::template);
    let image = |of: Option<&PodTemplateSpec>| gateway::image(of?, template?).map(str::to_owned);
    // Whatever somebody else has made of the image that was written.
    let has_image = live.is_none_or(|live| note(live) == wanted || image(live) == image(template));
    let pods = observed.pods.iter().filter(|pod| Part::Gateway.has(pod) && !has_ended(pod)).map(|pod| {
        let is_of_image = template.is_some_and(|template| gateway::is_of_image(pod, template));
        let seen = seen(pod, 0, now);
        if is_of_image { Pod { mark: wanted.clone(), ..seen } } else { seen }
    });
    Gateway {
        has_image,
        pods: pods.collect(),
        serves: matches!(&observed.gateway, GatewayView::Answered(it) if it.pipeline_complete),
        is_refused: observed.obstacles.refused.contains_key(&name),
        wanted,
    }
}

/// It will never run again, and is there for nothing but its status: an evicted one, say.
fn has_ended(pod: &KubePod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded"))
}

fn moves_image(observed: &Observed, desired: &Desired) -> bool {
    let sets = desired.shards.iter().map(|children| &children.stateful_set);
    let templates: BTreeMap<String, &PodTemplateSpec> =
        sets.filter_map(|set| Some((set.name_any(), &set.spec.as_ref()?.template))).collect();
    let is_other = |pod: &KubePod| {
        let set = pod.metadata.name.as_deref().and_then(|name| name.rsplit_once('-'));
        let template = set.and_then(|(set, _)| templates.get(set));
        // Somebody else may have made another image of the one that was written.
        let is_of_template = |template: &PodTemplateSpec| {
            template.metadata.as_ref().is_some_and(|meta| mark(meta) == mark(&pod.metadata))
        };
        template.is_some_and(|template| !gateway::is_of_image(pod, template) && !is_of_template(template))
    };
    observed.pods.iter().any(is_other)
}

/// Those bootstrap pods that are as they are wanted.
fn starts<'a>(cluster: &Cluster, observed: &'a Observed, desired: &Desired) -> Vec<&'a KubePod> {
    let (wanted, prefix) = (mark_of(&desired.bootstrap.stateful_set), Part::Bootstrap.name(cluster) + "-");
    let is_new = |pod: &&KubePod| pod.name_any().starts_with(&prefix) && mark(&pod.metadata) == wanted;
    observed.pods.iter().filter(is_new).collect()
}

fn mark(meta: &ObjectMeta) -> Mark {
    let plan = meta.annotations.as_ref().and_then(|annotations| annotations.get(PLAN));
    Mark { hash: template_hash(meta).unwrap_or_default().to_owned(), plan: plan.cloned() }
}

fn mark_of(set: &StatefulSet) -> Mark {
    set.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref()).map(mark).unwrap_or_default()
}

pub(super) fn replicas_of(set: &StatefulSet) -> u32 {
    set.spec.as_ref().and_then(|spec| u32::try_from(spec.replicas?).ok()).unwrap_or(0)
}

fn partition(set: &StatefulSet) -> u32 {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref()?.rolling_update.as_ref());
    strategy.and_then(|rolling| u32::try_from(rolling.partition?).ok()).unwrap_or(0)
}

fn is_rolling(set: &StatefulSet) -> bool {
    set.status.as_ref().is_some_and(|status| status.current_revision != status.update_revision)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_pod_is_overdue_when_it_has_not_been_ready_for_long() {
        let pod = |made: &str, conditions: Value| -> KubePod {
            serde_json::from_value(json!({
                "metadata": {"name": "a-shard-1-0", "creationTimestamp": made}, "status": {"conditions": conditions},
            }))
            .unwrap()
        };
        let ready = |status: &str, since: &str| json!([{"type": "Ready", "status": status, "lastTransitionTime": since}]);
        let (long_ago, lately) = ("2026-01-01T10:00:00Z", "2026-01-01T11:30:00Z");
        let table = [
            ("it is ready", pod(long_ago, ready("True", long_ago)), false),
            ("it starts for ever", pod(long_ago, ready("False", long_ago)), true),
            ("it was ready lately", pod(long_ago, ready("False", lately)), false),
            ("no kubelet has seen it", pod(long_ago, json!([])), true),
            ("it is new", pod(lately, json!([])), false),
        ];
        let now = "2026-01-01T12:00:00Z".parse().unwrap();
        for (case, pod, overdue) in table {
            let (set, pod) = read(&pod, now).unwrap();
            assert_eq!((set, pod.ordinal, pod.overdue), ("a-shard-1", 0, overdue), "{case}");
        }
    }
}
