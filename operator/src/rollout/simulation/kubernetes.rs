//! What StatefulSet controllers and kubelets do with the pods of a shard.

use super::{Mark, Pod, Shard, pod};

/// What a StatefulSet controller knows beyond what is written.
#[derive(Clone, Copy)]
pub(super) struct Controller<'a> {
    /// What pods below the partition are made from.
    pub(super) before: &'a Mark,
    /// Pods with this template never become ready.
    pub(super) bad: Option<&'a Mark>,
    /// It replaces no pod while any is not ready: since Kubernetes 1.35. Before, it waited for those only that it had
    /// replaced.
    pub(super) careful: bool,
}

impl Controller<'_> {
    /// What it does next.
    pub(super) fn act(self, shard: &mut Shard) {
        let Some(live) = shard.live.clone() else { return };
        let replicas = live.replicas;
        if let Some(beyond) = shard.pods.iter().find(|pod| pod.ordinal >= replicas && !pod.going) {
            return delete(shard, beyond.ordinal);
        }
        if let Some(ordinal) = (0..replicas).find(|ordinal| shard.pod(*ordinal).is_none()) {
            let revision = if ordinal >= live.partition { &live.mark } else { self.before };
            let troubled = self.bad == Some(revision);
            return shard.pods.push(Pod { troubled, ..pod(ordinal, revision, false) });
        }
        if self.careful && shard.pods.iter().any(|pod| !pod.ready) {
            return;
        }
        for ordinal in (live.partition..replicas).rev() {
            let Some(pod) = shard.pod(ordinal) else { return };
            if pod.mark != live.mark && !pod.going {
                return delete(shard, ordinal);
            }
            if !pod.ready {
                return;
            }
        }
    }
}

/// What a kubelet does next for one of these pods.
pub(super) fn advance(pods: &mut Vec<Pod>, nth: usize) {
    let waiting: Vec<usize> = (0..pods.len()).filter(|at| !pods[*at].ready && !pods[*at].troubled).collect();
    let going: Vec<usize> = (0..pods.len()).filter(|at| pods[*at].going).collect();
    let all = [waiting, going].concat();
    let Some(at) = all.get(nth % all.len().max(1)) else { return };
    if pods[*at].going {
        pods.remove(*at);
    } else {
        pods[*at].ready = true;
    }
}

pub(super) fn delete(shard: &mut Shard, ordinal: u32) {
    for pod in shard.pods.iter_mut().filter(|pod| pod.ordinal == ordinal) {
        (pod.ready, pod.going) = (false, true);
    }
}
