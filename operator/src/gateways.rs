//! What gateways say of their pipelines, as it changes: each ready gateway holds one long poll.
//!
//! ```text
//!  reconcile ─▶ follow(ShardCluster, pods, key) ─▶ GatewayView    the best of the last answers, at once
//!                   │ starts and ends
//!                   ▼
//!  poll, one task per gateway ─▶ link ─▶ /api/v1/pipeline?since=…
//!                   └▶ the answer is kept, and is news of the ShardCluster ─▶ controller
//! ```

mod link;
mod poll;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use shard_wire::pipeline::PipelineStatus;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::desired::meta::Part;
use crate::pods::is_ready;
use crate::watch::ClusterRef;
pub use link::GatewayError;

/// Of many gateways some are enough: all of them see the same fleet.
const MAX_ASKED: usize = 8;
/// ShardClusters with an answer that no reconcile has taken up; polls that are ahead of them wait.
const NEWS: usize = 1024;

/// What the gateways of a cluster say.
#[derive(Clone, Debug, PartialEq)]
pub enum GatewayView {
    /// No gateway is ready to be asked.
    NotReady,
    /// They are being asked for the first time: their answer, or that there is none, is news within seconds.
    Asking,
    /// Those that are ready do not answer: why, in words that follow "no gateway answers".
    Unreachable(String),
    /// The best answer.
    Answered(Box<PipelineStatus>),
}

/// The polls of all gateways; they end when this is dropped.
#[derive(Debug)]
pub struct Gateways {
    port: u16,
    followed: Arc<Mutex<HashMap<ClusterRef, Followed>>>,
    news: mpsc::Sender<ClusterRef>,
}

/// The gateways of one ShardCluster.
#[derive(Debug, Default)]
struct Followed {
    key: Option<String>,
    polls: BTreeMap<SocketAddr, Poll>,
}

#[derive(Debug)]
struct Poll {
    _task: AbortOnDropHandle<()>,
    /// The last one; `None` before the first.
    answer: Option<Result<PipelineStatus, String>>,
}

impl Gateways {
    /// Those that listen on this port of their pods, and the ShardClusters of which they have news.
    #[must_use]
    pub fn on_port(port: u16) -> (Self, mpsc::Receiver<ClusterRef>) {
        let (news, receiver) = mpsc::channel(NEWS);
        (Self { port, followed: Arc::default(), news }, receiver)
    }

    /// Polls those of these pods that are ready gateways, and no others of this ShardCluster; what they last said.
    pub(crate) fn follow(&self, cluster: &ClusterRef, pods: &[Pod], key: Option<&str>) -> GatewayView {
        let asked: Vec<SocketAddr> = addresses(pods, self.port).take(MAX_ASKED).collect();
        let mut all = lock(&self.followed);
        if asked.is_empty() {
            all.remove(cluster);
            return GatewayView::NotReady;
        }
        let followed = all.entry(cluster.clone()).or_default();
        if followed.key.as_deref() != key {
            *followed = Followed { key: key.map(str::to_owned), polls: BTreeMap::new() };
        }
        followed.polls.retain(|at, _| asked.contains(at));
        for at in asked {
            followed.polls.entry(at).or_insert_with(|| self.poll(cluster, at, key));
        }
        best(followed.polls.values().map(|poll| poll.answer.as_ref()))
    }

    /// Ends its polls.
    pub(crate) fn forget(&self, cluster: &ClusterRef) {
        lock(&self.followed).remove(cluster);
    }

    fn poll(&self, cluster: &ClusterRef, at: SocketAddr, key: Option<&str>) -> Poll {
        let (followed, news, cluster) = (Arc::downgrade(&self.followed), self.news.clone(), cluster.clone());
        let tell = move |answer: Result<PipelineStatus, GatewayError>| {
            if let Some(followed) = followed.upgrade()
                && let Some(poll) =
                    lock(&followed).get_mut(&cluster).and_then(|followed| followed.polls.get_mut(&at))
            {
                poll.answer = Some(answer.map_err(|error| error.to_string()));
            }
            let (news, cluster) = (news.clone(), cluster.clone());
            // A controller that is gone has no use for it.
            async move { drop(news.send(cluster).await) }
        };
        let task = tokio::spawn(poll::poll(link::Link::new(at, key.map(str::to_owned)), tell));
        Poll { _task: AbortOnDropHandle::new(task), answer: None }
    }
}

fn lock(followed: &Mutex<HashMap<ClusterRef, Followed>>) -> MutexGuard<'_, HashMap<ClusterRef, Followed>> {
    followed.lock().unwrap_or_else(PoisonError::into_inner)
}

fn addresses(pods: &[Pod], port: u16) -> impl Iterator<Item = SocketAddr> {
    pods.iter().filter(|pod| Part::Gateway.has(pod) && is_ready(pod)).filter_map(move |pod| {
        let ip: IpAddr = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
        Some(SocketAddr::new(ip, port))
    })
}

/// A gateway that proved the pipeline is right; else the one that has found most. Of equals, one that hears an origin.
fn best<'a>(answers: impl Iterator<Item = Option<&'a Result<PipelineStatus, String>>>) -> GatewayView {
    let (mut found, mut view) = (None::<&PipelineStatus>, GatewayView::NotReady);
    let worth = |one: &PipelineStatus| {
        let hears = !one.origin.incarnation.is_empty();
        (one.pipeline_complete, one.manifest.is_some(), one.discovered_shards, hears)
    };
    for answer in answers {
        match answer {
            Some(Ok(answer)) if found.is_none_or(|best| worth(answer) > worth(best)) => found = Some(answer),
            Some(Ok(_)) => {}
            Some(Err(why)) if view == GatewayView::NotReady => view = GatewayView::Unreachable(why.clone()),
            Some(Err(_)) => {}
            None => view = GatewayView::Asking,
        }
    }
    found.map_or(view, |best| GatewayView::Answered(Box::new(best.clone())))
}

#[cfg(test)]
mod tests {
    use shard_wire::pipeline::Origin;

    use super::*;

    #[test]
    fn one_that_proved_it_is_believed_and_silence_is_told_only_of_those_that_were_asked() {
        let complete = || PipelineStatus { pipeline_complete: true, ..PipelineStatus::default() };
        let found = |count| PipelineStatus { discovered_shards: count, ..PipelineStatus::default() };
        let hears = |count| {
            let origin = Origin { incarnation: "1".into(), ..Origin::default() };
            PipelineStatus { origin, ..found(count) }
        };
        let answered = |status: PipelineStatus| GatewayView::Answered(Box::new(status));
        let silent = || Some(Err("no".to_owned()));
        let table = [
            (vec![], GatewayView::NotReady),
            (vec![None, silent()], GatewayView::Asking),
            (vec![silent(), None], GatewayView::Asking),
            (vec![silent(), silent()], GatewayView::Unreachable("no".into())),
            (vec![silent(), Some(Ok(found(1))), None], answered(found(1))),
            (vec![Some(Ok(found(3))), Some(Ok(complete())), Some(Ok(found(4)))], answered(complete())),
            (vec![Some(Ok(found(3))), Some(Ok(found(4)))], answered(found(4))),
            (vec![Some(Ok(found(3))), Some(Ok(hears(3))), Some(Ok(found(3)))], answered(hears(3))),
        ];
        for (answers, expected) in table {
            assert_eq!(best(answers.iter().map(Option::as_ref)), expected, "{answers:?}");
        }
    }
}
