//! Sessions that wait: for a slot, or for a route in place of one that was lost. Pure.

use std::time::Instant;

use libp2p::PeerId;
use shard_wire::frame::SessionId;
use shard_wire::session::Refusal;

use super::route::Incomplete;
use super::session::{Action, State};
use super::sessions::{Sessions, close};
use crate::ring::client::{AnswerError, OpenError};

/// A session that loses its route this often without a token between is given up: the fault travels with it.
const MAX_LOSSES: u32 = 3;

impl Sessions {
    /// The route of a session is of no use any more: another one, or wait for one.
    pub(super) fn lose(
        &mut self,
        id: SessionId,
        peer: Option<PeerId>,
        reason: String,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if matches!(session.state, State::Waiting { .. }) {
            return;
        }
        let stages = &session.route.stages;
        let shard = stages.iter().find(|s| Some(s.peer) == peer).or(stages.first()).map_or(0, |s| s.shard);
        session.loss.get_or_insert((shard, reason));
        session.losses += 1;
        close(id, session, now, actions);
        let (pinned, told) = (session.pinned, session.told);
        if pinned && !told {
            let error = match peer {
                Some(peer) => {
                    let refusal = Refusal::Unreachable { peer: peer.to_string() };
                    OpenError::Refused { shard, refusal }
                }
                None => OpenError::Timeout(self.limits.open),
            };
            return self.refuse(id, error, actions);
        }
        if let Some((shard, reason)) = session.loss.clone().filter(|_| pinned || session.losses > MAX_LOSSES)
        {
            return self.fail(id, AnswerError::Lost { shard, reason }, now, actions);
        }
        self.wait(id, now);
        self.retry(now, actions);
    }

    pub(super) fn wait(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.state = State::Waiting { since: now };
        // One that was open goes first: its client has waited longest.
        if session.told { self.queue.push_front(id) } else { self.queue.push_back(id) }
    }

    /// Opens the first that waits of each plan; it is at the head again if it is refused.
    pub(super) fn retry(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let sessions = &self.sessions;
        self.queue.retain(|id| sessions.contains_key(id));
        let mut tried: Vec<Option<String>> = Vec::new();
        for id in self.queue.clone() {
            let plan = self.plan_of(id).map(str::to_owned);
            if tried.contains(&plan) {
                continue;
            }
            if self.open(id, now, actions) {
                self.queue.retain(|waiting| *waiting != id);
            }
            tried.push(plan);
        }
    }

    pub(super) fn on_tick(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            let Some(session) = self.sessions.get(&id) else { continue };
            if now >= session.deadline() {
                let error = AnswerError::Deadline(session.prompt.deadline);
                self.fail(id, error, now, actions);
                continue;
            }
            match session.state {
                State::Opening { sent } if now >= sent + self.limits.open => {
                    self.lose(id, None, "the route did not answer".into(), now, actions);
                }
                State::Waiting { since } => self.overdue(id, since, now, actions),
                _ => {}
            }
        }
        self.retry(now, actions);
    }

    pub(super) fn overdue(&mut self, id: SessionId, since: Instant, now: Instant, actions: &mut Vec<Action>) {
        let Some(session) = self.sessions.get(&id) else { return };
        let begun = if session.told { since } else { session.begun };
        let limit = if session.told { self.limits.recovery } else { self.limits.queue_wait };
        if now < begun + limit {
            return;
        }
        let error = match (&session.loss, self.route(session.plan())) {
            (Some((shard, reason)), _) if session.told => {
                return self.fail(
                    id,
                    AnswerError::Lost { shard: *shard, reason: reason.clone() },
                    now,
                    actions,
                );
            }
            (_, Err(Incomplete { missing, reason })) => OpenError::Incomplete { missing, reason },
            (Some(_), Ok(_)) => OpenError::Timeout(self.limits.open),
            (None, Ok(_)) => OpenError::Busy,
        };
        self.refuse(id, error, actions);
    }
}
