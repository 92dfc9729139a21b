//! The task that owns what a gateway says of its pipeline: `GET /api/v1/pipeline`, and the model that it serves.
//!
//! ```text
//! view, activity, round trips ─▶ facts ─▶ PipelineStatus, on a watch channel
//!        │ a new plan ─▶ learn it from a replica ─▶ Model, on a watch channel
//!        └ a change, or a replica without a token for a minute ─▶ probe: one token on a route through it
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p::PeerId;
use shard_wire::pipeline::{Origin, PipelineStatus, Probe};
use shard_wire::session::Sampling;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::facts::{LearnError, Learned, describe, learn};
use super::proof::Proof;
use crate::clock::now_ms;
use crate::cluster::{ClusterView, Facts, Replica};
use crate::front::Front;
use crate::model::Model;
use crate::net::Network;
use crate::ring::client::{AnswerError, Client, OpenError, Prompt};
use crate::ring::gateway::driver::Activity;
use crate::ring::gateway::route::{Route, Stage};
use crate::torrents::{Known, Registry};

/// After an attempt to learn a plan or to probe it that failed; each is a line of the log.
const AGAIN: Duration = Duration::from_secs(1);
/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(100);
/// A probe is one token: the ring gives it within this.
const PROBE: Duration = Duration::from_secs(10);

/// What a gateway shows.
#[derive(Clone)]
pub struct Pipeline {
    /// The model; `None` until it is learned.
    pub model: watch::Receiver<Option<Arc<Model>>>,
    /// `GET /api/v1/pipeline`.
    pub status: watch::Receiver<Arc<PipelineStatus>>,
}

impl Pipeline {
    /// Starts the task; it ends with the network.
    pub fn spawn(network: Network, front: Front, known: Known, cluster: String) -> Self {
        let (model_out, model) = watch::channel(None);
        let (status_out, status) = watch::channel(Arc::new(PipelineStatus::default()));
        let task = Task {
            network,
            front,
            known,
            files: Vec::new(),
            facts: Facts { cluster, ..Facts::default() },
            model: model_out,
            status: status_out,
            learned: None,
            fleet: Vec::new(),
            proof: Proof::new(String::new(), Vec::new(), Instant::now()),
            retry_at: Instant::now(),
            work: JoinSet::new(),
            process: now_ms(),
            revision: 0,
        };
        tokio::spawn(task.run());
        Self { model, status }
    }
}

/// What ran beside the task.
enum Outcome {
    Learned(Box<Result<Option<Learned>, LearnError>>),
    Probed { route: Route, sent: Instant, result: Result<(), ProbeError> },
}

/// Why a probe brought no token.
#[derive(Debug, PartialEq, Error)]
enum ProbeError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Answer(#[from] AnswerError),
    #[error("the answer ended without a token")]
    Nothing,
}

struct Task {
    network: Network,
    front: Front,
    /// What the bootstraps say of who has which files.
    known: Known,
    /// The files of the plan that is learned, by hash.
    files: Vec<String>,
    facts: Facts,
    model: watch::Sender<Option<Arc<Model>>>,
    status: watch::Sender<Arc<PipelineStatus>>,
    learned: Option<String>,
    /// Replicas of the plan that serve, with their incarnations; others are a change that is to be proved anew.
    fleet: Vec<(Stage, u64)>,
    proof: Proof,
    retry_at: Instant,
    /// One at most.
    work: JoinSet<Outcome>,
    process: u64,
    revision: u64,
}

impl Task {
    async fn run(mut self) {
        let mut front = self.front.clone();
        let mut seeders = self.known.changes();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let open = tokio::select! {
                changed = front.view.changed() => changed.is_ok(),
                changed = front.activity.changed() => changed.is_ok(),
                changed = front.round_trips.changed() => changed.is_ok(),
                Some(Ok(outcome)) = self.work.join_next() => { self.on_outcome(outcome); true }
                _ = tick.tick() => true,
            };
            if !open {
                return;
            }
            let view = front.view.borrow_and_update().clone();
            if seeders.has_changed().unwrap_or(false) {
                seeders.mark_unchanged();
                self.look_at_seeders();
            }
            self.observe(&view);
            self.act(&view);
            self.publish(&view);
        }
    }

    fn look_at_seeders(&mut self) {
        let files = || self.files.iter().map(String::as_str);
        let origin = self.known.read(Registry::origin).unwrap_or_default();
        self.facts.origin = Origin { percent: f32::from(origin.percent), bytes: origin.bytes };
        self.facts.seeded =
            !self.files.is_empty() && self.known.read(|registry| registry.all_seeded(files()));
    }

    /// Takes over what changed.
    fn observe(&mut self, view: &ClusterView) {
        let Activity { load, passed } = self.front.activity.borrow().clone();
        let plan = view.plan.as_ref();
        let name = plan.map(|plan| plan.name.as_str()).unwrap_or_default();
        let stage = |replica: &Replica| Stage { peer: replica.peer, shard: replica.shard.shard_id };
        let serving = view.serving().filter(|replica| replica.shard.plan == name);
        let fleet: Vec<_> = serving.map(|replica| (stage(replica), replica.incarnation)).collect();
        let now = Instant::now();
        if fleet != self.fleet || !self.proof.is_of(name) {
            self.fleet = fleet;
            let shards = plan.iter().flat_map(|plan| &plan.shards).map(|shard| shard.serving.clone());
            self.proof = Proof::new(name.to_owned(), shards.collect(), now);
            self.retry_at = now;
        }
        self.proof.on_tokens(passed);
        self.facts.proved = self.proof.covers();
        self.facts.failures = self.proof.failures();
        self.facts.probe.ok &= self.facts.failures.is_empty();
        self.facts.active = load.iter().map(|(peer, n)| (*peer, *n as u32)).collect();
        let rounded = |rtt: &Duration| Duration::from_micros(rtt.as_micros() as u64 / 100 * 100);
        let round_trips: HashMap<PeerId, Duration> =
            self.front.round_trips.borrow().iter().map(|(peer, rtt)| (*peer, rounded(rtt))).collect();
        self.facts.latency = round_trips;
    }

    /// Learns the plan, or probes it, where that is due.
    fn act(&mut self, view: &Arc<ClusterView>) {
        let now = Instant::now();
        if !self.work.is_empty() || now < self.retry_at {
            return;
        }
        let plan = view.plan.as_ref().map(|plan| plan.name.clone());
        if plan.is_some() && plan != self.learned {
            self.retry_at = now + AGAIN;
            let (mut control, view) = (self.network.streams(), Arc::clone(view));
            self.work.spawn(async move { Outcome::Learned(Box::new(learn(&mut control, &view).await)) });
        } else if let Some(plan) = plan.is_none().then(|| self.undescribed()).flatten() {
            self.retry_at = now + AGAIN;
            let seeders = self.known.read(|registry| registry.manifest_seeders(&plan));
            let mut control = self.network.streams();
            self.work.spawn(async move {
                Outcome::Learned(Box::new(describe(&mut control, &plan, seeders).await))
            });
        } else if let Some(route) = self.proof.next(now) {
            // BOS where the model has one, else any token.
            let first =
                self.model.borrow().as_ref().map(|model| model.encode("").first().copied().unwrap_or(0));
            let Some(first) = first else { return };
            self.work.spawn(probe(self.front.client.clone(), route, first));
        }
    }

    /// The plan that nodes are to serve, while nobody does and its manifest is not known.
    fn undescribed(&self) -> Option<String> {
        let described = self.facts.manifest.as_ref().map(|manifest| manifest.plan.as_str());
        self.known.read(|registry| registry.plan_to_adopt(described))
    }

    fn on_outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Learned(learned) => match *learned {
                Ok(Some(learned)) => {
                    if let Some(model) = learned.model {
                        self.learned = Some(learned.manifest.plan.clone());
                        self.model.send_replace(Some(Arc::new(model)));
                    }
                    self.facts.manifest = Some(learned.manifest);
                    self.files = learned.files;
                    self.look_at_seeders();
                    self.retry_at = Instant::now();
                }
                Ok(None) => {}
                Err(error) => warn!("the plan could not be learned from any replica: {error}"),
            },
            Outcome::Probed { route, sent, result } => self.on_probed(&route, sent, &result),
        }
    }

    fn on_probed(&mut self, route: &Route, sent: Instant, result: &Result<(), ProbeError>) {
        let now = Instant::now();
        match result {
            // A fleet that is busy is not broken.
            Err(ProbeError::Open(OpenError::Busy)) => {
                self.proof.on_busy(route, now);
                self.retry_at = now + AGAIN;
                return;
            }
            Err(error) => {
                let peers: Vec<String> = route.stages.iter().map(|stage| stage.peer.to_string()).collect();
                warn!(route = peers.join(" "), "a probe did not come back: {error}");
                self.proof.on_failure(route, sent, &error.to_string(), now);
                self.retry_at = now + AGAIN;
            }
            Ok(()) => self.retry_at = now,
        }
        let latency_ms = if result.is_ok() { (now - sent).as_secs_f32() * 1e3 } else { 0.0 };
        self.facts.probe = Probe { ok: result.is_ok(), latency_ms, at: now_ms() / 1000 };
    }

    fn publish(&mut self, view: &ClusterView) {
        let status = view.pipeline(&self.facts);
        let last = Arc::clone(&self.status.borrow());
        self.revision += u64::from(lasting(&status) != lasting(&last));
        let status = PipelineStatus { revision: format!("{:x}-{}", self.process, self.revision), ..status };
        if (last.pipeline_complete, &last.reason) != (status.pipeline_complete, &status.reason) {
            info!(complete = status.pipeline_complete, reason = status.reason, "the pipeline changed");
        }
        if *last != status {
            self.status.send_replace(Arc::new(status));
        }
    }
}

/// What makes a revision: not what differs from one moment to the next, which would wake every long poll.
fn lasting(status: &PipelineStatus) -> PipelineStatus {
    let mut status = PipelineStatus { revision: String::new(), ..status.clone() };
    status.probe = Probe { ok: status.probe.ok, ..Probe::default() };
    for replica in status.shards.iter_mut().flat_map(|shard| &mut shard.replicas) {
        (replica.active_requests, replica.latency_ms) = (0, 0.0);
    }
    status
}

/// One token on this route.
async fn probe(client: Client, route: Route, token: u32) -> Outcome {
    let sent = Instant::now();
    let prompt = Prompt {
        ids: vec![token],
        sampling: Sampling::default(),
        eos: Vec::new(),
        max_tokens: 1,
        deadline: PROBE,
    };
    let result = match client.generate_on(route.clone(), prompt).await {
        Ok(mut answer) => match answer.tokens.recv().await {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(error.into()),
            None => Err(ProbeError::Nothing),
        },
        Err(error) => Err(error.into()),
    };
    Outcome::Probed { route, sent, result }
}
