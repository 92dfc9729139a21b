//! What a gateway's sessions are told and what they ask for.

use std::time::{Duration, Instant};

use libp2p::PeerId;
use shard_wire::frame::{Frame, SessionId};

use super::route::{Fleet, Route};
use crate::ring::client::{AnswerError, OpenError, Prompt, Token};

/// How long a gateway waits for what.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests that wait for a free slot; one more is refused at once.
    pub queue: usize,
    /// A request waits for a free slot this long.
    pub queue_wait: Duration,
    /// A route answers OPEN within this.
    pub open: Duration,
    /// A session that lost a stage waits for another route this long.
    pub recovery: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self { queue: 64, queue_wait: s(10), open: s(5), recovery: s(30) }
    }
}

/// What can happen to the sessions.
#[derive(Debug)]
pub enum Event {
    /// A new prompt, under a name drawn at random.
    Generate(SessionId, Prompt),
    /// A new prompt for this route and no other.
    GenerateOn(SessionId, Prompt, Route),
    /// Its client is gone, or needs no more.
    Cancel(SessionId),
    /// A frame for the gateway.
    Frame(PeerId, Frame),
    /// A frame could not be sent.
    Unsent(PeerId, Frame),
    /// The last connection to a peer is gone.
    Gone(PeerId),
    /// A peer is connected again.
    Back(PeerId),
    /// The fleet changed.
    Fleet(Fleet),
    /// Look at deadlines and at what waits.
    Tick,
}

/// What is to be done.
#[derive(Debug)]
pub enum Action {
    /// Send a frame; never blocks.
    Send(PeerId, Frame),
    /// The session is open; it took this long.
    Opened(SessionId, Duration),
    /// The session could not be opened.
    Refused(SessionId, OpenError),
    /// The next token; the session ends after one with `finish`.
    Deliver(SessionId, Token),
    /// The answer broke off.
    Failed(SessionId, AnswerError),
}

/// Where a session stands.
#[derive(Debug)]
pub(super) enum State {
    /// No route or no slot; `since` begins the limit.
    Waiting {
        since: Instant,
    },
    Opening {
        sent: Instant,
    },
    Running,
}

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) prompt: Prompt,
    pub(super) produced: Vec<u32>,
    pub(super) epoch: u32,
    pub(super) route: Route,
    /// It has this route or none: it waits for nothing, and ends with its first loss.
    pub(super) pinned: bool,
    pub(super) state: State,
    pub(super) begun: Instant,
    /// The client was told that the session is open.
    pub(super) told: bool,
    /// Losses since the last token.
    pub(super) losses: u32,
    /// The shard of the first of them, and what was seen.
    pub(super) loss: Option<(u32, String)>,
}

impl Session {
    /// The plan that it is of; `None` while it may take any.
    pub(super) fn plan(&self) -> Option<&str> {
        let begun = self.pinned || !self.produced.is_empty();
        if begun { Some(&self.route.plan) } else { self.prompt.plan.as_deref() }
    }

    /// Position of the token that comes next.
    pub(super) fn next_position(&self) -> u32 {
        (self.prompt.ids.len() + self.produced.len()) as u32
    }

    /// When the answer must be complete.
    pub(super) fn deadline(&self) -> Instant {
        self.begun + self.prompt.deadline
    }

    /// Until then.
    pub(super) fn remaining_ms(&self, now: Instant) -> u32 {
        u32::try_from(self.deadline().saturating_duration_since(now).as_millis()).unwrap_or(u32::MAX)
    }
}
