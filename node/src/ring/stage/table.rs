//! The sessions of one node: frames, finished forwards and time in, actions out. Pure.
//!
//! ```text
//! OPEN ──▶ admit ──▶ reserve ──▶ next stage, or OPENED to the gateway
//!             └────▶ REFUSED, back along the route
//! START, CHUNK, STEP, TOKEN ──▶ fence ──▶ the engine ──▶ done ──▶ next stage, or TOKEN to stage 0 and the gateway
//! CLOSE, a higher epoch, the lease, the deadline ──▶ free
//! ```
//! A session is fenced three ways: a kind of frame is taken only from the peer that OPEN names for it, only at the
//! epoch of the slot, only at the position that comes next. Everything else is dropped and counted.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use libp2p::PeerId;
use shard_wire::frame::{Dtype, Frame, Header, Kind, LAST, SessionId, TO_GATEWAY};
use shard_wire::session::{Failure, Finish, Sampled};

use super::job::{Done, Input, Job, Key, Output};
use super::slot::Slot;

pub use super::event::{Action, Drops, Ended, Event, Limits, Served};

/// A session outlives the connection to its gateway by this. A slot is to be free 5 s after a gateway was killed, and
/// QUIC notices after 3 to 4 s. The gateway takes the session elsewhere as soon as it sees the loss, so nothing is lost by it.
pub const LEASE: Duration = Duration::from_millis(500);
/// Sessions that were freed and must not be opened again by a late frame.
const TOMBSTONES: usize = 4096;

/// The sessions of one node.
#[derive(Debug)]
pub struct Table {
    pub(super) me: PeerId,
    pub(super) limits: Limits,
    pub(super) served: BTreeMap<u32, Served>,
    pub(super) draining: BTreeSet<u32>,
    pub(super) slots: HashMap<Key, Slot>,
    closed: HashMap<Key, u32>,
    closed_order: VecDeque<Key>,
    drops: Drops,
    ended: Ended,
}

impl Table {
    /// An empty table of the node `me`.
    pub fn new(me: PeerId, limits: Limits) -> Self {
        Self {
            me,
            limits,
            served: BTreeMap::new(),
            draining: BTreeSet::new(),
            slots: HashMap::new(),
            closed: HashMap::new(),
            closed_order: VecDeque::new(),
            drops: Drops::default(),
            ended: Ended::default(),
        }
    }

    /// Slots that are taken: a session counts once per stage that it has here.
    pub fn active(&self) -> usize {
        self.slots.len()
    }

    /// Slots that are taken, by shard; shards without any are left out.
    pub fn active_by_shard(&self) -> BTreeMap<u32, usize> {
        let mut counts = BTreeMap::new();
        for slot in self.slots.values() {
            *counts.entry(slot.shard()).or_default() += 1;
        }
        counts
    }

    /// Frames that were dropped.
    pub fn drops(&self) -> Drops {
        self.drops
    }

    /// Sessions that have ended.
    pub fn ended(&self) -> Ended {
        self.ended
    }

    /// Takes one event; the actions are to be carried out in order.
    pub fn on(&mut self, event: Event, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Frame(from, frame) => self.on_frame(from, frame, now, &mut actions),
            Event::Done(done) => self.on_done(done, now, &mut actions),
            Event::Unsent(to, frame) => self.on_unsent(to, &frame, now, &mut actions),
            Event::Gone(peer) => self.slots.values_mut().filter(|s| s.gateway == peer).for_each(|slot| {
                slot.orphaned.get_or_insert(now);
            }),
            Event::Back(peer) => self.slots.values_mut().filter(|s| s.gateway == peer).for_each(|slot| {
                slot.orphaned = None;
            }),
            Event::Serve(shard, served) => {
                self.draining.remove(&shard);
                self.served.insert(shard, served);
                self.end_all(shard, "was loaded anew", now, &mut actions);
            }
            Event::Drain(shard) => {
                self.draining.insert(shard);
            }
            Event::Withdraw(shard) => {
                self.draining.remove(&shard);
                self.served.remove(&shard);
                self.end_all(shard, "is no longer served here", now, &mut actions);
            }
            Event::Tick => self.expire(now, &mut actions),
        }
        actions
    }

    fn on_frame(&mut self, from: PeerId, frame: Frame, now: Instant, actions: &mut Vec<Action>) {
        let Header { kind, session, stage, epoch, .. } = frame.header;
        let key = (session, stage);
        match kind {
            Kind::Open => return self.on_open(from, &frame, now, actions),
            Kind::Close => return self.on_close(from, session, epoch, actions),
            Kind::Where => return self.on_where(from, key, now, actions),
            _ => {}
        }
        let Some(slot) = self.slots.get_mut(&key) else {
            self.drops.unknown += 1;
            return;
        };
        if epoch != slot.epoch {
            self.drops.epoch += 1;
            return;
        }
        let named = match kind {
            Kind::Start => stage == 0 && from == slot.gateway,
            Kind::Token => stage == 0 && from == slot.last,
            Kind::Chunk | Kind::Step => stage > 0 && from == slot.previous,
            Kind::Credit | Kind::Refused => Some(from) == slot.next,
            _ => false,
        };
        if !named {
            self.drops.sender += 1;
            return;
        }
        match kind {
            Kind::Start => {
                slot.start(frame.header.position, self.limits.chunk, now);
                run_ready(slot, actions);
            }
            Kind::Credit => {
                slot.credit();
                run_ready(slot, actions);
            }
            Kind::Refused => {
                let back = self.refusal_back(key, frame.body, now);
                self.free(key, actions);
                actions.extend(back);
            }
            _ => {
                let width = self.served.get(&slot.shard()).map_or(0, |served| served.width);
                let header = frame.header;
                let (input, trace) = Input::read(frame, width, self.limits.chunk);
                if input.is_some_and(|input| slot.accept(&header, input, trace, now)) {
                    run_ready(slot, actions);
                } else {
                    self.drops.position += 1;
                }
            }
        }
    }

    fn on_done(&mut self, done: Done, now: Instant, actions: &mut Vec<Action>) {
        // A forward of an epoch that was freed meanwhile has no slot, or one of another epoch.
        let Some(slot) = self.slots.get_mut(&done.key).filter(|slot| slot.epoch == done.epoch) else {
            return;
        };
        slot.spend(done.queued, done.computed);
        let end = done.position + done.count;
        let prefill = slot.is_prefill(done.position);
        if prefill && slot.stage > 0 {
            let credit = slot.header(Kind::Credit, slot.stage - 1, now);
            actions.push(Action::Send(slot.previous, Frame::control(credit)));
        }
        match done.output {
            Output::Hidden { dtype, width, bytes } => {
                let Some(next) = slot.next else { return };
                let last = !prefill || slot.ends_prefill(end);
                let kind = if prefill { Kind::Chunk } else { Kind::Step };
                let header = Header {
                    dtype,
                    width,
                    position: done.position,
                    count: done.count,
                    flags: if prefill && last { LAST } else { 0 },
                    ..slot.header(kind, slot.stage + 1, now)
                };
                let trace = if last { slot.take_trace() } else { Vec::new() };
                actions.push(Action::Send(next, Frame { header, values: bytes, trace, body: Vec::new() }));
            }
            Output::Token { id, logprob, top } => {
                send_token(slot, id, end, Sampled { finish: None, logprob, top }, now, actions);
            }
            Output::Cached => {}
            Output::Failed(message) => {
                slot.failed = true;
                actions.push(failure(slot, message, now));
            }
        }
        if prefill && slot.next.is_none() {
            slot.credit();
        }
        run_ready(slot, actions);
    }

    /// OPEN that cannot be passed on is a refusal; anything else tells the gateway, which decides.
    fn on_unsent(&mut self, to: PeerId, frame: &Frame, now: Instant, actions: &mut Vec<Action>) {
        let Header { kind, session, stage, epoch, flags, .. } = frame.header;
        if flags & TO_GATEWAY != 0 || matches!(kind, Kind::Refused | Kind::Credit) {
            return;
        }
        let stage = match kind {
            Kind::Open | Kind::Chunk | Kind::Step => stage.saturating_sub(1),
            // A token for stage 0 comes from the last stage, whose index its slot knows.
            _ => match self.slots.keys().filter(|key| key.0 == session).map(|key| key.1).max() {
                Some(last) => last,
                None => return,
            },
        };
        let key = (session, stage);
        let Some(slot) = self.slots.get_mut(&key).filter(|slot| slot.epoch == epoch) else { return };
        if kind == Kind::Open {
            let refusal = shard_wire::session::Refusal::Unreachable { peer: to.to_string() };
            let back = self.refusal_back(key, json(&refusal), now);
            self.free(key, actions);
            actions.extend(back);
        } else {
            slot.failed = true;
            actions.push(failure(slot, format!("peer {to} cannot be reached"), now));
        }
    }

    fn on_close(&mut self, from: PeerId, session: SessionId, epoch: u32, actions: &mut Vec<Action>) {
        let mine: Vec<Key> = self.slots.keys().filter(|key| key.0 == session).copied().collect();
        if mine.is_empty() {
            // It may have overtaken the OPEN; that must not reserve any more.
            self.bury((session, u16::MAX), epoch);
        }
        for key in mine {
            match self.slots.get(&key) {
                Some(slot) if slot.gateway != from => self.drops.sender += 1,
                Some(slot) if slot.epoch > epoch => self.drops.epoch += 1,
                slot => {
                    let failed = slot.is_some_and(|slot| slot.failed);
                    self.ended.failed += u64::from(failed);
                    self.ended.successful += u64::from(!failed);
                    self.free(key, actions);
                }
            }
        }
    }

    fn on_where(&mut self, from: PeerId, key: Key, now: Instant, actions: &mut Vec<Action>) {
        match self.slots.get(&key).filter(|slot| slot.gateway == from) {
            Some(slot) => {
                let header = Header { position: slot.expected(), ..slot.header_to_gateway(Kind::Here, now) };
                actions.push(Action::Send(from, Frame::control(header)));
            }
            None => self.drops.unknown += 1,
        }
    }

    /// The sessions of a shard end here, and their gateways are told.
    fn end_all(&mut self, shard: u32, why: &str, now: Instant, actions: &mut Vec<Action>) {
        let theirs: Vec<Key> =
            self.slots.values().filter(|s| s.shard() == shard).map(|s| (s.session, s.stage)).collect();
        for key in theirs {
            if let Some(slot) = self.slots.get(&key) {
                actions.push(failure(slot, format!("shard {shard} {why}"), now));
            }
            self.ended.failed += 1;
            self.free(key, actions);
        }
    }

    fn expire(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let orphaned = |slot: &Slot| slot.orphaned.is_some_and(|since| now >= since + LEASE);
        let expired = self.slots.values().filter(|slot| now >= slot.deadline || orphaned(slot));
        let keys: Vec<Key> = expired.map(|slot| (slot.session, slot.stage)).collect();
        self.ended.failed += keys.len() as u64;
        keys.into_iter().for_each(|key| self.free(key, actions));
    }

    pub(super) fn free(&mut self, key: Key, actions: &mut Vec<Action>) {
        if let Some(slot) = self.slots.remove(&key) {
            self.bury(key, slot.epoch);
            actions.push(Action::Engine(Job::Close(key)));
        }
    }

    /// Remembers the highest epoch that was freed, so that a late frame does not open it again.
    fn bury(&mut self, key: Key, epoch: u32) {
        let known = self.closed.insert(key, epoch.max(self.closed.get(&key).copied().unwrap_or(0)));
        if known.is_none() {
            self.closed_order.push_back(key);
        }
        if self.closed_order.len() > TOMBSTONES
            && let Some(oldest) = self.closed_order.pop_front()
        {
            self.closed.remove(&oldest);
        }
    }

    /// True where a session of this epoch or a higher one was here and is gone.
    pub(super) fn buried(&self, key: Key, epoch: u32) -> bool {
        let gone = |key: Key| self.closed.get(&key).is_some_and(|&closed| closed >= epoch);
        gone(key) || gone((key.0, u16::MAX))
    }

    pub(super) fn count_stale(&mut self) {
        self.drops.epoch += 1;
    }

    pub(super) fn count_foreign(&mut self) {
        self.drops.sender += 1;
    }
}

/// Gives the engine what may run.
fn run_ready(slot: &mut Slot, actions: &mut Vec<Action>) {
    while let Some(run) = slot.next_run() {
        actions.push(Action::Engine(Job::Run(run)));
    }
}

/// The end of a round: the token goes to stage 0, where it begins the next, and to the gateway.
fn send_token(
    slot: &mut Slot,
    id: u32,
    position: u32,
    mut sampled: Sampled,
    now: Instant,
    actions: &mut Vec<Action>,
) {
    sampled.finish = if slot.open.eos.contains(&id) {
        Some(Finish::Eos)
    } else {
        (slot.generated(position) >= slot.open.max_tokens).then_some(Finish::Length)
    };
    let fields =
        Header { dtype: Dtype::U32, position, count: 1, width: 1, ..slot.header(Kind::Token, 0, now) };
    let values = id.to_le_bytes().to_vec();
    if sampled.finish.is_none() {
        let next = Frame { header: fields, values: values.clone(), trace: Vec::new(), body: Vec::new() };
        actions.push(Action::Send(slot.first, next));
    }
    let header = Header { flags: TO_GATEWAY, stage: slot.stage, ..fields };
    let frame = Frame { header, values, trace: slot.take_trace(), body: json(&sampled) };
    actions.push(Action::Send(slot.gateway, frame));
}

fn failure(slot: &Slot, message: String, now: Instant) -> Action {
    let header = slot.header_to_gateway(Kind::Failed, now);
    let body = json(&Failure { message });
    Action::Send(slot.gateway, Frame { body, ..Frame::control(header) })
}

/// Bodies are plain data of ours; serde_json cannot fail on them.
pub(super) fn json<T: serde::Serialize>(body: &T) -> Vec<u8> {
    serde_json::to_vec(body).unwrap_or_default()
}
