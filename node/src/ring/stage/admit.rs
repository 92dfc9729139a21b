//! OPEN: may this node take the session? Reserves, passes it on, or refuses along the way it came. Pure.

use std::time::Instant;

use libp2p::PeerId;
use shard_wire::frame::{Dtype, Frame, Header, Kind, TO_GATEWAY};
use shard_wire::session::{Open, Opened, Refusal};

use super::job::{Job, Key, Reserve, Sampler};
use super::slot::Slot;
use super::table::{Action, Table, json};

/// Stages of a route, at most.
const MAX_STAGES: usize = 256;
/// Ids in the EOS set and in the logit bias, at most.
const MAX_IDS: usize = 1024;
/// Tokens whose probabilities are reported, at most.
const MAX_LOGPROBS: u8 = 20;

/// An OPEN whose parts agree with one another.
struct Checked {
    open: Open,
    peers: Vec<PeerId>,
    gateway: PeerId,
}

impl Checked {
    /// Whom a stage of the route takes OPEN from.
    fn previous(&self, stage: u16) -> PeerId {
        usize::from(stage).checked_sub(1).map_or(self.gateway, |before| self.peers[before])
    }
}

impl Table {
    pub(super) fn on_open(&mut self, from: PeerId, frame: &Frame, now: Instant, actions: &mut Vec<Action>) {
        let Header { session, stage, epoch, .. } = frame.header;
        let key = (session, stage);
        let held = self.slots.get(&key);
        if self.buried(key, epoch) || held.is_some_and(|slot| slot.epoch >= epoch) {
            return self.count_stale();
        }
        // A session is its gateway's: nobody else may raise its epoch, and only along the route that OPEN names.
        let checked = check(frame, self.me);
        let theirs = |c: &Checked, slot: &Slot| c.gateway == slot.gateway && c.previous(stage) == from;
        if held.is_some_and(|slot| !checked.as_ref().is_ok_and(|checked| theirs(checked, slot))) {
            return self.count_foreign();
        }
        self.free(key, actions);
        let admitted = checked.and_then(|checked| self.admit(frame, checked, from, now));
        match admitted {
            Ok(slot) => self.reserve(key, slot, frame, now, actions),
            Err(refusal) => actions.push(refused(from, frame, stage, json(&refusal))),
        }
    }

    fn admit(&self, frame: &Frame, checked: Checked, from: PeerId, now: Instant) -> Result<Slot, Refusal> {
        let previous = checked.previous(frame.header.stage);
        let Checked { open, peers, gateway } = checked;
        let slot = Slot::new(frame, open, &peers, gateway, previous, now);
        if from != slot.previous {
            return Err(invalid(format!(
                "stage {} takes OPEN from {}, not from {from}",
                slot.stage, slot.previous
            )));
        }
        let served = self.served.get(&slot.shard()).filter(|_| !self.draining.contains(&slot.shard()));
        let served = served.ok_or(Refusal::NoSuchShard { shard: slot.shard() })?;
        if served.plan != slot.open.plan {
            return Err(Refusal::OtherPlan { plan: served.plan.clone() });
        }
        if served.first != (slot.stage == 0) || served.last != slot.next.is_none() {
            return Err(invalid(format!(
                "shard {} does not belong at stage {} of this route",
                slot.shard(),
                slot.stage
            )));
        }
        if slot.positions() > served.context {
            return Err(Refusal::TooLong { positions: slot.positions(), limit: served.context });
        }
        // One session is one slot a shard, however many shards it passes here.
        let sessions = self.slots.values().filter(|other| other.shard() == slot.shard()).count();
        if sessions >= self.limits.max_sessions { Err(Refusal::Busy) } else { Ok(slot) }
    }

    fn reserve(&mut self, key: Key, slot: Slot, frame: &Frame, now: Instant, actions: &mut Vec<Action>) {
        let last = slot.next.is_none();
        let sampler = last.then(|| Sampler {
            sampling: slot.open.sampling.clone(),
            history: frame.tokens().unwrap_or_default(),
        });
        actions.push(Action::Engine(Job::Open(Reserve {
            key,
            epoch: slot.epoch,
            shard: slot.shard(),
            positions: slot.positions(),
            sampler,
        })));
        // There is no prefix cache: every stage begins at position 0.
        let reuse = 0;
        match slot.next {
            Some(next) => {
                let header = Header { stage: slot.stage + 1, ..frame.header };
                let header = Header { remaining_ms: slot.header(Kind::Open, 0, now).remaining_ms, ..header };
                let body = json(&Open { reuse, ..slot.open.clone() });
                actions.push(Action::Send(
                    next,
                    Frame { header, values: frame.values.clone(), trace: Vec::new(), body },
                ));
            }
            None => {
                let header = slot.header_to_gateway(Kind::Opened, now);
                actions.push(Action::Send(
                    slot.gateway,
                    Frame { body: json(&Opened { reuse }), ..Frame::control(header) },
                ));
            }
        }
        self.slots.insert(key, slot);
    }

    /// The refusal of a later stage, passed on to where this stage's OPEN came from.
    pub(super) fn refusal_back(&self, key: Key, body: Vec<u8>, now: Instant) -> Option<Action> {
        let slot = self.slots.get(&key)?;
        let header = if slot.stage == 0 {
            slot.header_to_gateway(Kind::Refused, now)
        } else {
            slot.header(Kind::Refused, slot.stage - 1, now)
        };
        Some(Action::Send(slot.previous, Frame { body, ..Frame::control(header) }))
    }
}

/// REFUSED by the stage that OPEN reached, to the peer that it came from.
fn refused(to: PeerId, open: &Frame, stage: u16, body: Vec<u8>) -> Action {
    let to_stage = stage.saturating_sub(1);
    let flags = if stage == 0 { TO_GATEWAY } else { 0 };
    let header =
        Header { flags, ..Header::control(Kind::Refused, open.header.session, open.header.epoch, to_stage) };
    Action::Send(to, Frame { body, ..Frame::control(header) })
}

fn check(frame: &Frame, me: PeerId) -> Result<Checked, Refusal> {
    let Header { dtype, count, width, stage, .. } = frame.header;
    if dtype != Dtype::U32 || width != 1 || count == 0 {
        return Err(invalid(format!("OPEN carries {count} × {width} values of {dtype:?}, not prompt ids")));
    }
    let open: Open =
        serde_json::from_slice(&frame.body).map_err(|error| invalid(format!("OPEN's body: {error}")))?;
    if open.route.is_empty() || open.route.len() > MAX_STAGES {
        return Err(invalid(format!("a route of {} stages", open.route.len())));
    }
    if open.max_tokens == 0 {
        return Err(invalid("max_tokens is 0".into()));
    }
    if open.eos.len() > MAX_IDS || open.sampling.logit_bias.len() > MAX_IDS {
        return Err(invalid(format!("more than {MAX_IDS} ids in the EOS set or the logit bias")));
    }
    if open.sampling.logprobs.is_some_and(|top| top > MAX_LOGPROBS) {
        return Err(invalid(format!("more than {MAX_LOGPROBS} probabilities a token")));
    }
    let peer =
        |text: &str| text.parse::<PeerId>().map_err(|error| invalid(format!("peer id {text:?}: {error}")));
    let peers = open.route.iter().map(|stage| peer(&stage.peer)).collect::<Result<Vec<_>, _>>()?;
    match peers.get(usize::from(stage)) {
        Some(named) if *named == me => {}
        Some(named) => {
            return Err(invalid(format!("stage {stage} of the route is {named}, this node is {me}")));
        }
        None => return Err(invalid(format!("stage {stage} of a route of {}", peers.len()))),
    }
    let gateway = peer(&open.gateway)?;
    Ok(Checked { open, peers, gateway })
}

fn invalid(message: String) -> Refusal {
    Refusal::Invalid { message }
}
