//! The task that owns what a gateway says of its pipeline: `GET /api/v1/pipeline`, and the model that it serves.
//!
//! ```text
//! view, activity, round trips ─▶ tracks (one for each plan of interest) ─▶ choice ─▶ PipelineStatus, Model: watch channels
//!                                  │ a new plan ─▶ learn it from a replica, or its manifest from whoever has it
//!                                  └ a change, or a replica without a token for a minute ─▶ probe: one token through it
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p::PeerId;
use shard_wire::frame;
use shard_wire::pipeline::{Origin, PipelineStatus, Probe};
use shard_wire::session::Sampling;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, info, warn};

use super::choice;
use super::facts::{LearnError, Learned, describe, learn};
use super::track::{Need, Track};
use crate::clock::now_ms;
use crate::cluster::{ClusterView, Facts, NextFacts, PlanView};
use crate::front::Front;
use crate::model::Model;
use crate::net::Network;
use crate::ring::client::{AnswerError, Client, OpenError, Prompt};
use crate::ring::gateway::driver::Activity;
use crate::ring::gateway::route::Route;
use crate::torrents::Known;

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
            facts: Facts { cluster, ..Facts::default() },
            model: model_out,
            status: status_out,
            origin: None,
            described: None,
            foreign: None,
            served: None,
            tracks: Vec::new(),
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
    Learned { plan: String, result: Box<Result<Option<Learned>, LearnError>> },
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
    facts: Facts,
    model: watch::Sender<Option<Arc<Model>>>,
    status: watch::Sender<Arc<PipelineStatus>>,
    /// The plan that an origin has made.
    origin: Option<String>,
    /// The plan that nodes are to serve, where nobody does.
    described: Option<String>,
    /// The origin's plan and its wire version, where this program does not speak it.
    foreign: Option<(String, u8)>,
    /// The plan that is served.
    served: Option<String>,
    /// The plans of interest: the one that is served, those that may take its place.
    tracks: Vec<Track>,
    /// One at most.
    work: JoinSet<Outcome>,
    process: u64,
    revision: u64,
}

impl Task {
    async fn run(mut self) {
        let mut front = self.front.clone();
        let mut seeders = self.known.changes();
        // What came before is news, too.
        seeders.mark_changed();
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
                self.look_at_origin();
            }
            let view = self.observe(&view);
            self.act(&view);
            self.publish(&view);
        }
    }

    fn look_at_origin(&mut self) {
        let (progress, made, plan, described, wire) = self.known.read(|registry| {
            let made = registry.plan_of_origin().unwrap_or_default().to_owned();
            let plan = registry.origin_plan().map(str::to_owned);
            let wire = plan.as_ref().map(|plan| registry.wire_version(plan));
            (registry.origin().unwrap_or_default(), made, plan, registry.plan_to_adopt(None), wire)
        });
        self.facts.origin = Origin {
            percent: f32::from(progress.percent),
            bytes: progress.bytes,
            plan: made,
            error: progress.error,
            wire_version: progress.wire_version,
            incarnation: progress.incarnation,
        };
        // While there is no origin its last word holds.
        if let Some(told) = plan.clone().zip(wire) {
            self.foreign = Some(told).filter(|(_, wire)| *wire != frame::VERSION);
        }
        (self.origin, self.described) = (plan, described);
        self.look_at_seeders();
    }

    fn look_at_seeders(&mut self) {
        let files = self.shown().map(|track| track.files.as_slice()).unwrap_or_default();
        let hashes = || files.iter().map(String::as_str);
        self.facts.seeded = !files.is_empty() && self.known.read(|registry| registry.all_seeded(hashes()));
    }

    /// The plan that is shown: while nobody serves one, the one that is to be.
    fn shown(&self) -> Option<&Track> {
        let name = self.served.as_ref().or(self.described.as_ref())?;
        self.tracks.iter().find(|track| track.plan == *name)
    }

    /// Takes over what changed, and chooses the plan to serve. Returns the view of those that serve it.
    fn observe(&mut self, view: &Arc<ClusterView>) -> Arc<ClusterView> {
        let Activity { load, passed } = self.front.activity.borrow().clone();
        let now = Instant::now();
        let is_foreign =
            |plan: &PlanView| self.foreign.as_ref().is_some_and(|(foreign, _)| *foreign == plan.name);
        let spoken: Vec<&PlanView> = view.plans().filter(|plan| !is_foreign(plan)).collect();
        let best = choice::best(&spoken, self.served.as_deref(), self.origin.as_deref());
        let best = best.map(|plan| plan.name.clone());
        self.follow(best.clone(), now);
        self.tracks.iter_mut().for_each(|track| track.observe(view, &passed, now));
        let is_proved = |plan: &str| self.tracks.iter().any(|track| track.plan == plan && track.is_proved());
        let served = choice::served(&spoken, self.served.as_deref(), self.origin.as_deref(), is_proved);
        let served = served.map(|plan| plan.name.clone());
        if served != self.served {
            info!(plan = served, before = self.served, "the plan that is served changed");
            self.served = served;
            self.look_at_seeders();
        }
        self.take_facts(best);
        self.facts.active = load.iter().map(|(peer, n)| (*peer, *n as u32)).collect();
        let rounded = |rtt: &Duration| Duration::from_micros(rtt.as_micros() as u64 / 100 * 100);
        let round_trips: HashMap<PeerId, Duration> =
            self.front.round_trips.borrow().iter().map(|(peer, rtt)| (*peer, rounded(rtt))).collect();
        self.facts.latency = round_trips;
        match &self.served {
            Some(plan) if view.plan.as_ref().is_some_and(|nearest| nearest.name != *plan) => {
                Arc::new(view.of(plan))
            }
            _ => Arc::clone(view),
        }
    }

    /// Keeps what is known of the plans of interest, the one that is served first.
    fn follow(&mut self, best: Option<String>, now: Instant) {
        let mut known = std::mem::take(&mut self.tracks);
        for plan in [self.served.clone(), best, self.origin.clone(), self.described.clone()] {
            let Some(plan) = plan.filter(|plan| self.tracks.iter().all(|track| track.plan != *plan)) else {
                continue;
            };
            let foreign = self.foreign.as_ref().filter(|(foreign, _)| *foreign == plan);
            let wire = foreign.map_or(frame::VERSION, |(_, wire)| *wire);
            let place = known.iter().position(|track| track.plan == plan);
            let track = place.map(|place| known.swap_remove(place));
            let mut track = track.unwrap_or_else(|| Track::new(plan, now));
            track.wire = wire;
            self.tracks.push(track);
        }
    }

    /// What the tracks say of the plan that is shown and of the one that comes next.
    fn take_facts(&mut self, best: Option<String>) {
        let (mut facts, mut model) = (Facts::default(), None);
        if let Some(track) = self.shown() {
            model.clone_from(&track.model);
            facts.manifest.clone_from(&track.manifest);
            facts.proved = track.proof.covers();
            facts.failures = track.failures();
            facts.probe = track.probe.clone();
        }
        let mut others = self.origin.clone().into_iter().chain(best).filter(|_| self.served.is_some());
        let next = others.find(|plan| self.served.as_ref() != Some(plan));
        facts.next = next.map(|plan| {
            let track = self.tracks.iter().find(|track| track.plan == plan);
            let manifest = track.and_then(|track| track.manifest.clone());
            let failures = track.map(Track::failures).unwrap_or_default();
            NextFacts { plan, manifest, failures }
        });
        let Facts { cluster, origin, seeded, .. } = std::mem::take(&mut self.facts);
        self.facts = Facts { cluster, origin, seeded, ..facts };
        if let Some(model) = model {
            self.model.send_if_modified(|sent| {
                let same = sent.as_ref().is_some_and(|sent| Arc::ptr_eq(sent, &model));
                *sent = Some(model);
                !same
            });
        }
    }

    /// Finds out what is due, one thing at a time.
    fn act(&mut self, view: &Arc<ClusterView>) {
        if !self.work.is_empty() {
            return;
        }
        let now = Instant::now();
        for track in &mut self.tracks {
            let Some(need) = track.need(now) else { continue };
            let (plan, wire, mut control) = (track.plan.clone(), track.wire, self.network.streams());
            match need {
                Need::Learn => {
                    track.rest(now);
                    let view = view.of(&plan);
                    self.work.spawn(async move {
                        let result = Box::new(learn(&mut control, &view).await);
                        Outcome::Learned { plan, result }
                    });
                }
                Need::Describe => {
                    track.rest(now);
                    let seeders = self.known.read(|registry| registry.manifest_seeders(&plan));
                    self.work.spawn(async move {
                        let result = Box::new(describe(&mut control, &plan, wire, seeders).await);
                        Outcome::Learned { plan, result }
                    });
                }
                Need::Probe { route, token } => {
                    self.work.spawn(probe(self.front.client.clone(), route, token));
                }
            }
            return;
        }
    }

    fn is_served(&self, plan: &str) -> bool {
        self.front.view.borrow().serving().any(|replica| replica.shard.plan == plan)
    }

    fn on_outcome(&mut self, outcome: Outcome) {
        let now = Instant::now();
        match outcome {
            Outcome::Learned { plan, result } => match *result {
                Ok(Some(learned)) => {
                    if let Some(track) = self.tracks.iter_mut().find(|track| track.plan == plan) {
                        track.learned(learned, now);
                        self.look_at_seeders();
                    }
                }
                Ok(None) => {}
                // Whoever has its files may have other things to do first.
                Err(error) if !self.is_served(&plan) => {
                    debug!(plan, "the plan is not described yet: {error}");
                }
                Err(error) => warn!(plan, "the plan could not be learned from any replica: {error}"),
            },
            Outcome::Probed { route, sent, result } => {
                if let Some(track) = self.tracks.iter_mut().find(|track| track.plan == route.plan) {
                    on_probed(track, &route, sent, &result, now);
                }
            }
        }
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

fn on_probed(track: &mut Track, route: &Route, sent: Instant, result: &Result<(), ProbeError>, now: Instant) {
    match result {
        // A fleet that is busy is not broken.
        Err(ProbeError::Open(OpenError::Busy)) => {
            track.proof.on_busy(route, now);
            return track.rest(now);
        }
        Err(error) => {
            let peers: Vec<String> = route.stages.iter().map(|stage| stage.peer.to_string()).collect();
            warn!(route = peers.join(" "), "a probe did not come back: {error}");
            track.proof.on_failure(route, sent, &error.to_string(), now);
            track.rest(now);
        }
        Ok(()) => {}
    }
    let latency_ms = if result.is_ok() { (now - sent).as_secs_f32() * 1e3 } else { 0.0 };
    track.probe = Probe { ok: result.is_ok(), latency_ms, at: now_ms() / 1000 };
}

/// What makes a revision: not what differs from one moment to the next, which would wake every long poll.
fn lasting(status: &PipelineStatus) -> PipelineStatus {
    let mut status = PipelineStatus { revision: String::new(), ..status.clone() };
    status.probe = Probe { ok: status.probe.ok, ..Probe::default() };
    let next = status.next_plan.iter_mut().flat_map(|next| &mut next.shards);
    for replica in status.shards.iter_mut().chain(next).flat_map(|shard| &mut shard.replicas) {
        (replica.active_requests, replica.latency_ms) = (0, 0.0);
    }
    status
}

/// One token on this route.
async fn probe(client: Client, route: Route, token: u32) -> Outcome {
    let sent = Instant::now();
    let prompt = Prompt {
        plan: None,
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
