//! Every version of a status, as a watch tells of it.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, WatchEvent, WatchParams};
use shard_operator::crd::{ShardCluster, ShardClusterStatus};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::expected::{Said, said};

/// Something is wrong when a status is not right by then, however slow the machine is.
const DEADLINE: Duration = Duration::from_secs(60);

type Versions = Vec<(Instant, ShardClusterStatus)>;

pub(crate) struct Record {
    versions: watch::Receiver<Versions>,
    task: AbortHandle,
}

impl Drop for Record {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Record {
    pub(crate) async fn start(api: Api<ShardCluster>, name: &str) -> Self {
        let (sender, versions) = watch::channel(Vec::new());
        let only = WatchParams::default().fields(&format!("metadata.name={name}"));
        let mut events = api.watch(&only, "0").await.unwrap().boxed();
        let task = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if let WatchEvent::Added(resource) | WatchEvent::Modified(resource) = event.unwrap()
                    && let Some(status) = resource.status
                {
                    sender.send_modify(|all: &mut Versions| all.push((Instant::now(), status)));
                }
            }
        });
        Self { versions, task: task.abort_handle() }
    }

    /// When the status first said this; the times of earlier versions do not count.
    pub(crate) async fn until(&mut self, what: &str, wanted: &Said) -> Instant {
        let says = |versions: &Versions| versions.last().is_some_and(|(_, status)| said(status) == *wanted);
        let found = timeout(DEADLINE, self.versions.wait_for(says))
            .await
            .map(|found| found.unwrap().last().unwrap().0);
        match found {
            Ok(at) => at,
            Err(_) => {
                let last = self.versions.borrow().last().map(|(_, status)| said(status));
                panic!("{what}: not within {DEADLINE:?}: {wanted:#?}\nbut {last:#?}")
            }
        }
    }

    /// What it said of one condition, one after the other.
    pub(crate) fn sequence(&self, condition: &str) -> Vec<(String, String)> {
        let all = self.versions.borrow();
        let mut said: Vec<_> = all.iter().filter_map(|(_, status)| said(status).remove(condition)).collect();
        said.dedup();
        said
    }

    /// The time of a transition is another one when the status is, and at no other time.
    pub(crate) fn check_times(&self) {
        let all = self.versions.borrow();
        for pair in all.windows(2) {
            let [(_, before), (_, after)] = pair else { continue };
            for new in &after.conditions {
                let same = |old: &&Condition| old.type_ == new.type_ && old.status == new.status;
                if let Some(old) = before.conditions.iter().find(same) {
                    assert_eq!(old.last_transition_time, new.last_transition_time, "{old:?}, then {new:?}");
                }
            }
        }
    }
}
