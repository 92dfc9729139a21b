//! What a gateway knows of one plan, and what is to be found out next. Pure.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shard_wire::frame;
use shard_wire::pipeline::Probe;

use super::facts::Learned;
use super::proof::Proof;
use crate::cluster::{ClusterView, ManifestFacts, Replica};
use crate::model::Model;
use crate::ring::gateway::route::{Route, Stage};

/// After an attempt to learn a plan or to probe it that failed; each is a line of the log.
pub(super) const AGAIN: Duration = Duration::from_secs(1);

/// One plan.
pub(super) struct Track {
    pub(super) plan: String,
    /// The wire version that it is of: of another one than this program's it is described, and no more.
    pub(super) wire: u8,
    /// What its manifest says.
    pub(super) manifest: Option<ManifestFacts>,
    /// Its files, by hash.
    pub(super) files: Vec<String>,
    /// Its vocabulary; a replica that serves has to tell it.
    pub(super) model: Option<Arc<Model>>,
    pub(super) proof: Proof,
    /// The last probe.
    pub(super) probe: Probe,
    /// Replicas that serve, with their incarnations; others are a change that is to be proved anew.
    fleet: Vec<(Stage, u64)>,
    retry_at: Instant,
}

/// What is to be found out.
pub(super) enum Need {
    /// The manifest and the vocabulary, of a replica.
    Learn,
    /// The manifest, of whoever has it.
    Describe,
    /// Whether a token comes through.
    Probe { route: Route, token: u32 },
}

impl Track {
    pub(super) fn new(plan: String, now: Instant) -> Self {
        Self {
            proof: Proof::new(plan.clone(), Vec::new(), now),
            plan,
            wire: frame::VERSION,
            manifest: None,
            files: Vec::new(),
            model: None,
            probe: Probe::default(),
            fleet: Vec::new(),
            retry_at: now,
        }
    }

    /// Takes over who serves it, and where tokens went.
    pub(super) fn observe(&mut self, view: &ClusterView, passed: &HashMap<Stage, Instant>, now: Instant) {
        let stage = |replica: &Replica| Stage { peer: replica.peer, shard: replica.shard.shard_id };
        let serving = view.serving().filter(|replica| replica.shard.plan == self.plan);
        let fleet: Vec<_> = serving.map(|replica| (stage(replica), replica.incarnation)).collect();
        if fleet != self.fleet {
            self.fleet = fleet;
            let plan = view.plans().find(|plan| plan.name == self.plan);
            let shards = plan.iter().flat_map(|plan| &plan.shards).map(|shard| shard.serving.clone());
            self.proof = Proof::new(self.plan.clone(), shards.collect(), now);
            self.retry_at = now;
        }
        self.proof.on_tokens(passed.clone());
        self.probe.ok &= self.proof.failures().is_empty();
    }

    /// A prompt for it can be made, and a token went through every shard since the last change.
    pub(super) fn is_proved(&self) -> bool {
        self.model.is_some() && self.proof.covers()
    }

    /// This program speaks its wire version.
    pub(super) fn is_spoken(&self) -> bool {
        self.wire == frame::VERSION
    }

    /// Why it does not serve, or not all of it, beside what its replicas say; empty where there is nothing.
    pub(super) fn failures(&self) -> String {
        if self.is_spoken() {
            return self.proof.failures();
        }
        format!("it is of wire version {}, this gateway speaks {}", self.wire, frame::VERSION)
    }

    /// What is to be found out now, if anything is.
    pub(super) fn need(&self, now: Instant) -> Option<Need> {
        if now < self.retry_at {
            return None;
        }
        let Some(model) = &self.model else {
            if self.fleet.is_empty() || !self.is_spoken() {
                return self.manifest.is_none().then_some(Need::Describe);
            }
            return Some(Need::Learn);
        };
        // BOS where the model has one, else any token.
        let token = model.encode("").first().copied().unwrap_or(0);
        self.proof.next(now).map(|route| Need::Probe { route, token })
    }

    /// The next look is not before a moment has passed.
    pub(super) fn rest(&mut self, now: Instant) {
        self.retry_at = now + AGAIN;
    }

    /// Takes what was learned.
    pub(super) fn learned(&mut self, learned: Learned, now: Instant) {
        let Learned { manifest, files, model } = learned;
        (self.manifest, self.files, self.retry_at) = (Some(manifest), files, now);
        if let Some(model) = model {
            self.model = Some(Arc::new(model));
        }
    }
}
