//! Every session that this gateway owns: requests, frames and time in, actions out. Pure.
//!
//! ```text
//! Generate ─▶ Opening ─OPENED▶ Running ─last TOKEN▶ done
//!                │  ▲             │
//!           Busy │  │ retry       │ a stage is lost: open again, one epoch higher, with prompt and tokens so far
//!                ▼  │             ▼
//!              Waiting ◀──────────┘ no route: wait, within the limit
//! ```

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Instant;

use libp2p::PeerId;
use shard_wire::frame::{Dtype, Frame, Header, Kind, SessionId};
use shard_wire::session::{Failure, Open, Refusal, RouteStage, Sampled};

use super::route::{Fleet, Incomplete, Route, Stage, pick};
pub use super::session::{Action, Event, Limits};
use super::session::{Session, State};
use crate::ring::client::{AnswerError, OpenError, Prompt, Token};

/// Every session that this gateway owns.
#[derive(Debug)]
pub struct Sessions {
    me: PeerId,
    pub(super) limits: Limits,
    fleet: Fleet,
    gone: HashSet<PeerId>,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    /// Those that wait, first come first served.
    pub(super) queue: VecDeque<SessionId>,
    /// Stages that tokens have come through since [`Self::take_passed`].
    passed: HashSet<Stage>,
}

impl Sessions {
    /// No sessions yet, of the gateway `me`.
    pub fn new(me: PeerId, limits: Limits) -> Self {
        Self {
            me,
            limits,
            fleet: Fleet::default(),
            gone: HashSet::new(),
            sessions: BTreeMap::new(),
            queue: VecDeque::new(),
            passed: HashSet::new(),
        }
    }

    /// Sessions that have a route at each peer.
    pub fn load(&self) -> HashMap<PeerId, usize> {
        let mut load = HashMap::new();
        for session in self.sessions.values().filter(|s| !matches!(s.state, State::Waiting { .. })) {
            for peer in session.route.peers() {
                *load.entry(peer).or_default() += 1;
            }
        }
        load
    }

    /// Stages that tokens have come through since this was last asked.
    pub fn take_passed(&mut self) -> HashSet<Stage> {
        std::mem::take(&mut self.passed)
    }

    /// Takes one event; the actions are to be carried out in order.
    pub fn on(&mut self, event: Event, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Generate(id, prompt) => self.generate(id, prompt, None, now, &mut actions),
            Event::GenerateOn(id, prompt, route) => {
                self.generate(id, prompt, Some(route), now, &mut actions);
            }
            Event::Cancel(id) => self.end(id, now, &mut actions),
            Event::Frame(from, frame) => self.on_frame(from, &frame, now, &mut actions),
            Event::Unsent(to, frame) if frame.header.kind != Kind::Close => {
                let id = frame.header.session;
                let current = self.sessions.get(&id).is_some_and(|s| s.epoch == frame.header.epoch);
                if current {
                    self.lose(id, Some(to), "it cannot be reached".into(), now, &mut actions);
                }
            }
            Event::Unsent(..) => {}
            Event::Gone(peer) => self.on_gone(peer, now, &mut actions),
            Event::Back(peer) => {
                self.gone.remove(&peer);
            }
            Event::Fleet(fleet) => {
                self.fleet = fleet;
                self.retry(now, &mut actions);
            }
            Event::Tick => self.on_tick(now, &mut actions),
        }
        actions
    }

    fn generate(
        &mut self,
        id: SessionId,
        prompt: Prompt,
        wished: Option<Route>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let wished = wished.filter(|route| !route.stages.is_empty());
        let pinned = wished.is_some();
        let queue = if pinned { 0 } else { self.limits.queue };
        let of_plan = wished.as_ref().map(|route| route.plan.as_str()).or(prompt.plan.as_deref());
        let waits = self.somebody_waits(of_plan);
        if waits && self.queue.len() >= queue {
            return actions.push(Action::Refused(id, OpenError::Busy));
        }
        let route = match wished.map_or_else(|| self.route(prompt.plan.as_deref()), Ok) {
            Ok(route) => route,
            Err(Incomplete { missing, reason }) => {
                return actions.push(Action::Refused(id, OpenError::Incomplete { missing, reason }));
            }
        };
        let state = State::Waiting { since: now };
        let session = Session {
            prompt,
            produced: Vec::new(),
            epoch: 0,
            route,
            pinned,
            state,
            begun: now,
            told: false,
            losses: 0,
            loss: None,
        };
        self.sessions.insert(id, session);
        if waits {
            self.queue.push_back(id);
        } else {
            self.open(id, now, actions);
        }
    }

    /// A session of this plan waits: those that come later wait behind it. One of another plan holds up nobody.
    fn somebody_waits(&self, plan: Option<&str>) -> bool {
        let plan = plan.or(self.fleet.plan.as_deref());
        self.queue.iter().any(|id| self.plan_of(*id) == plan)
    }

    /// The plan that a session is of.
    pub(super) fn plan_of(&self, id: SessionId) -> Option<&str> {
        self.sessions.get(&id).and_then(Session::plan).or(self.fleet.plan.as_deref())
    }

    pub(super) fn route(&self, plan: Option<&str>) -> Result<Route, Incomplete> {
        let reachable = |peer: &PeerId| !self.gone.contains(peer);
        let replicas = self.fleet.replicas.iter().filter(|r| reachable(&r.peer)).cloned().collect();
        pick(&Fleet { replicas, ..self.fleet.clone() }, &self.load(), plan)
    }

    /// Sends OPEN along the best route, or the wished one, one epoch higher; false where there is no route now.
    pub(super) fn open(&mut self, id: SessionId, now: Instant, actions: &mut Vec<Action>) -> bool {
        let Some(session) = self.sessions.get(&id) else { return true };
        let route = if session.pinned { Ok(session.route.clone()) } else { self.route(session.plan()) };
        let Ok(route) = route else { return false };
        let Some(session) = self.sessions.get_mut(&id) else { return true };
        session.epoch += 1;
        session.state = State::Opening { sent: now };
        session.route = route;
        let stages = session.route.stages.iter();
        let body = Open {
            gateway: self.me.to_string(),
            route: stages.map(|s| RouteStage { peer: s.peer.to_string(), shard: s.shard }).collect(),
            plan: session.route.plan.clone(),
            sampling: session.prompt.sampling.clone(),
            eos: session.prompt.eos.clone(),
            max_tokens: session.prompt.max_tokens - session.produced.len() as u32,
            reuse: session.next_position(),
            recovering: !session.produced.is_empty(),
        };
        let ids = session.prompt.ids.iter().chain(&session.produced);
        let header = Header {
            dtype: Dtype::U32,
            count: session.next_position(),
            width: 1,
            remaining_ms: session.remaining_ms(now),
            ..Header::control(Kind::Open, id, session.epoch, 0)
        };
        let values = ids.flat_map(|id| id.to_le_bytes()).collect();
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let first = session.route.stages[0].peer;
        actions.push(Action::Send(first, Frame { header, values, trace: Vec::new(), body }));
        true
    }

    fn on_frame(&mut self, from: PeerId, frame: &Frame, now: Instant, actions: &mut Vec<Action>) {
        let Header { kind, session: id, stage, epoch, .. } = frame.header;
        let Some(session) = self.sessions.get_mut(&id).filter(|s| s.epoch == epoch) else { return };
        let stages = &session.route.stages;
        let peer_at = |index: usize| stages.get(index).map(|stage| stage.peer);
        let named = match kind {
            Kind::Opened | Kind::Token => {
                usize::from(stage) + 1 == stages.len() && peer_at(stages.len() - 1) == Some(from)
            }
            Kind::Refused => peer_at(0) == Some(from),
            _ => peer_at(usize::from(stage)) == Some(from),
        };
        if !named {
            return;
        }
        match kind {
            Kind::Opened => {
                let State::Opening { sent } = session.state else { return };
                session.state = State::Running;
                let remaining_ms = session.remaining_ms(now);
                let start = Header { remaining_ms, ..Header::control(Kind::Start, id, epoch, 0) };
                actions.push(Action::Send(session.route.stages[0].peer, Frame::control(start)));
                if !std::mem::replace(&mut session.told, true) {
                    actions.push(Action::Opened(id, now - sent));
                }
            }
            Kind::Refused => {
                let refusal = serde_json::from_slice(&frame.body).unwrap_or_else(|error| Refusal::Invalid {
                    message: format!("an unreadable refusal: {error}"),
                });
                self.on_refused(id, refusal, now, actions);
            }
            Kind::Token => self.on_token(id, frame, now, actions),
            Kind::Failed => {
                let said = serde_json::from_slice::<Failure>(&frame.body)
                    .map_or_else(|e| e.to_string(), |f| f.message);
                self.lose(id, Some(from), said, now, actions);
            }
            _ => {}
        }
    }

    fn on_token(&mut self, id: SessionId, frame: &Frame, now: Instant, actions: &mut Vec<Action>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let position = frame.header.position;
        let Some(&[token]) = frame.tokens().as_deref() else { return };
        if !matches!(session.state, State::Running) || position != session.next_position() {
            return;
        }
        let Ok(sampled) = serde_json::from_slice::<Sampled>(&frame.body) else { return };
        self.passed.extend(&session.route.stages);
        session.produced.push(token);
        session.losses = 0;
        session.loss = None;
        let Sampled { finish, logprob, top } = sampled;
        let trace = frame.trace.clone();
        actions.push(Action::Deliver(id, Token { id: token, position, finish, logprob, top, trace }));
        if finish.is_some() {
            self.end(id, now, actions);
        }
    }

    fn on_refused(&mut self, id: SessionId, refusal: Refusal, now: Instant, actions: &mut Vec<Action>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let shard = session.route.stages.first().map_or(0, |stage| stage.shard);
        match refusal {
            Refusal::Busy if session.pinned => self.refuse(id, OpenError::Busy, actions),
            Refusal::Busy => {
                let full = self.queue.len() >= self.limits.queue && !session.told;
                if full {
                    self.sessions.remove(&id);
                    return actions.push(Action::Refused(id, OpenError::Busy));
                }
                self.wait(id, now);
            }
            // The fleet changed under the route: the next look at it will know better.
            Refusal::Unreachable { .. } | Refusal::OtherPlan { .. } | Refusal::NoSuchShard { .. }
                if !session.pinned =>
            {
                session.loss.get_or_insert_with(|| (shard, format!("{refusal:?}")));
                self.wait(id, now);
            }
            Refusal::TooLong { positions, limit } => {
                self.refuse(id, OpenError::TooLong { positions, limit }, actions);
            }
            refusal => self.refuse(id, OpenError::Refused { shard, refusal }, actions),
        }
    }

    fn on_gone(&mut self, peer: PeerId, now: Instant, actions: &mut Vec<Action>) {
        self.gone.insert(peer);
        let on_route = |s: &Session| {
            !matches!(s.state, State::Waiting { .. }) && s.route.stages.iter().any(|st| st.peer == peer)
        };
        let lost: Vec<SessionId> =
            self.sessions.iter().filter(|(_, s)| on_route(s)).map(|(id, _)| *id).collect();
        for id in lost {
            self.lose(id, Some(peer), "its connection was lost".into(), now, actions);
        }
    }

    pub(super) fn refuse(&mut self, id: SessionId, error: OpenError, actions: &mut Vec<Action>) {
        let Some(session) = self.sessions.remove(&id) else { return };
        self.queue.retain(|waiting| *waiting != id);
        if session.told {
            let shard = session.route.stages.first().map_or(0, |stage| stage.shard);
            actions.push(Action::Failed(id, AnswerError::Lost { shard, reason: error.to_string() }));
        } else {
            actions.push(Action::Refused(id, error));
        }
    }

    pub(super) fn fail(
        &mut self,
        id: SessionId,
        error: AnswerError,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let told = self.sessions.get(&id).is_some_and(|session| session.told);
        self.end(id, now, actions);
        if told {
            actions.push(Action::Failed(id, error));
        } else {
            actions.push(Action::Refused(id, OpenError::Timeout(self.limits.open)));
        }
    }

    /// Frees the session on every stage, and lets the next one in.
    pub(super) fn end(&mut self, id: SessionId, now: Instant, actions: &mut Vec<Action>) {
        self.queue.retain(|waiting| *waiting != id);
        if let Some(session) = self.sessions.remove(&id) {
            close(id, &session, now, actions);
            self.retry(now, actions);
        }
    }
}

pub(super) fn close(id: SessionId, session: &Session, now: Instant, actions: &mut Vec<Action>) {
    if matches!(session.state, State::Waiting { .. }) {
        return;
    }
    let header = Header {
        remaining_ms: session.remaining_ms(now),
        ..Header::control(Kind::Close, id, session.epoch, 0)
    };
    actions.extend(session.route.peers().into_iter().map(|peer| Action::Send(peer, Frame::control(header))));
}
