//! What the machine takes meanwhile for the least that there is: an object is written, and a watch tells of it.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

const NAME: &str = "round";
/// Between the beginnings of two rounds, where they are not longer.
const PAUSE: Duration = Duration::from_millis(50);

struct Round {
    from: Instant,
    to: Instant,
}

/// Writes and looks, until it is dropped.
pub(crate) struct Control {
    rounds: watch::Receiver<Vec<Round>>,
    task: AbortHandle,
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Control {
    pub(crate) fn start(client: Client) -> Self {
        let (sender, rounds) = watch::channel(Vec::new());
        let task = tokio::spawn(async move {
            let maps = Api::<ConfigMap>::default_namespaced(client);
            let only = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
            let mut seen = watcher(maps.clone(), only).applied_objects().boxed();
            let mut ticks = interval(PAUSE);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for number in 0_u64.. {
                // A late tick is a part of what is measured.
                let from = ticks.tick().await;
                let number = number.to_string();
                let map = json!({
                    "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME}, "data": {"number": number},
                });
                maps.patch(NAME, &PatchParams::apply(NAME), &Patch::Apply(&map)).await.unwrap();
                while seen.next().await.unwrap().unwrap().data.unwrap()["number"] != number {}
                sender.send_modify(|rounds: &mut Vec<Round>| rounds.push(Round { from, to: Instant::now() }));
            }
        });
        Self { rounds, task: task.abort_handle() }
    }

    /// The longest round of those that were under way between these times; none where that is less than a pause.
    pub(crate) async fn longest(&mut self, from: Instant, to: Instant) -> Duration {
        let is_past = |rounds: &Vec<Round>| rounds.last().is_some_and(|last| last.from >= to);
        let rounds = self.rounds.wait_for(is_past).await.unwrap();
        let meanwhile = rounds.iter().filter(|round| round.from <= to && round.to >= from);
        meanwhile.map(|round| round.to - round.from).max().unwrap_or_default()
    }
}
