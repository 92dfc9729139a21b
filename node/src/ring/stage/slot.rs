//! One session at one stage: where it stands, and what it may do next. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use libp2p::PeerId;
use shard_wire::frame::{Frame, Header, Kind, LAST, SessionId, StageTime, TO_GATEWAY};
use shard_wire::session::Open;

use super::job::{Input, Run};

/// Chunks of one session that may be on their way between two stages: enough that neither waits, few megabytes.
pub(super) const WINDOW: u32 = 2;

/// A forward that waits for a credit of the next stage.
#[derive(Debug)]
struct Pending {
    position: u32,
    input: Input,
    last: bool,
    arrived: Instant,
}

/// One session at one stage.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) session: SessionId,
    pub(super) stage: u16,
    pub(super) epoch: u32,
    pub(super) gateway: PeerId,
    /// The gateway for stage 0.
    pub(super) previous: PeerId,
    /// `None` on the last stage.
    pub(super) next: Option<PeerId>,
    pub(super) first: PeerId,
    pub(super) last: PeerId,
    pub(super) open: Open,
    pub(super) deadline: Instant,
    /// Since when the gateway is not connected.
    pub(super) orphaned: Option<Instant>,
    /// Something of it failed here.
    pub(super) failed: bool,
    /// Stage 0 keeps the prompt until it is prefilled.
    prompt: Vec<u32>,
    prompt_len: u32,
    started: bool,
    /// The only position that is taken next.
    expected: u32,
    waiting: VecDeque<Pending>,
    credits: u32,
    /// Forwards of this epoch that have been given to the engine.
    steps: u32,
    /// The trace that came with the rows in work, and the time spent here since the last token.
    passed: Vec<StageTime>,
    spent: StageTime,
}

impl Slot {
    pub(super) fn new(
        frame: &Frame,
        open: Open,
        peers: &[PeerId],
        gateway: PeerId,
        previous: PeerId,
        now: Instant,
    ) -> Self {
        let header = &frame.header;
        let stage = usize::from(header.stage);
        let prompt_len = header.count;
        Self {
            session: header.session,
            stage: header.stage,
            epoch: header.epoch,
            gateway,
            previous,
            next: peers.get(stage + 1).copied(),
            first: peers[0],
            last: peers[peers.len() - 1],
            open,
            deadline: now + Duration::from_millis(u64::from(header.remaining_ms)),
            orphaned: None,
            failed: false,
            prompt: if stage == 0 { frame.tokens().unwrap_or_default() } else { Vec::new() },
            prompt_len,
            started: false,
            expected: 0,
            waiting: VecDeque::new(),
            credits: WINDOW,
            steps: 0,
            passed: Vec::new(),
            spent: StageTime::default(),
        }
    }

    /// The shard that serves the session at this stage.
    pub(super) fn shard(&self) -> u32 {
        self.open.route[usize::from(self.stage)].shard
    }

    /// The next position that this stage has not seen.
    pub(super) fn expected(&self) -> u32 {
        self.expected
    }

    /// A header to somebody of the route.
    pub(super) fn header(&self, kind: Kind, stage: u16, now: Instant) -> Header {
        let remaining = self.deadline.saturating_duration_since(now).as_millis();
        Header {
            step: self.steps,
            remaining_ms: u32::try_from(remaining).unwrap_or(u32::MAX),
            ..Header::control(kind, self.session, self.epoch, stage)
        }
    }

    /// A header to the gateway.
    pub(super) fn header_to_gateway(&self, kind: Kind, now: Instant) -> Header {
        Header { flags: TO_GATEWAY, ..self.header(kind, self.stage, now) }
    }

    /// START: cuts the prompt into chunks. A second START does nothing.
    pub(super) fn start(&mut self, reuse: u32, chunk: u32, now: Instant) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let prompt = std::mem::take(&mut self.prompt);
        let mut position = reuse.min(self.prompt_len.saturating_sub(1));
        for ids in prompt[position as usize..].chunks(chunk.max(1) as usize) {
            let last = position + ids.len() as u32 == self.prompt_len;
            self.waiting.push_back(Pending {
                position,
                input: Input::Tokens(ids.to_vec()),
                last,
                arrived: now,
            });
            position += ids.len() as u32;
        }
        self.expected = self.prompt_len;
    }

    /// Rows from the previous stage, or a token from the last one. False where they are not what comes next.
    pub(super) fn accept(
        &mut self,
        header: &Header,
        input: Input,
        trace: Vec<StageTime>,
        now: Instant,
    ) -> bool {
        let Header { kind, position, flags, .. } = *header;
        let end = position.saturating_add(input.count());
        let prefill = kind == Kind::Chunk;
        let in_turn = position == self.expected
            && if prefill {
                end <= self.prompt_len && (end == self.prompt_len) == (flags & LAST != 0)
            } else {
                position >= self.prompt_len && input.count() == 1 && end <= self.positions()
            };
        let room = self.waiting.len() < WINDOW as usize;
        if !in_turn || !room {
            return false;
        }
        self.expected = end;
        let last = !prefill || flags & LAST != 0;
        if last {
            self.passed = trace;
        }
        self.waiting.push_back(Pending { position, input, last, arrived: now });
        true
    }

    /// The next forward that may begin: rows are there, and the next stage has room for what comes out.
    pub(super) fn next_run(&mut self) -> Option<Run> {
        let prefill = self.waiting.front().is_some_and(|rows| rows.position < self.prompt_len);
        if prefill && self.credits == 0 {
            return None;
        }
        let rows = self.waiting.pop_front()?;
        if prefill {
            self.credits -= 1;
        }
        self.steps += 1;
        Some(Run {
            key: (self.session, self.stage),
            epoch: self.epoch,
            position: rows.position,
            sample: rows.last && self.next.is_none(),
            input: rows.input,
            arrived: rows.arrived,
        })
    }

    /// The next stage (on the last one: this one) consumed a chunk.
    pub(super) fn credit(&mut self) {
        self.credits = (self.credits + 1).min(WINDOW);
    }

    /// True where rows at `position` belong to the prefill.
    pub(super) fn is_prefill(&self, position: u32) -> bool {
        position < self.prompt_len
    }

    /// True where rows up to `end` finish the prefill.
    pub(super) fn ends_prefill(&self, end: u32) -> bool {
        end == self.prompt_len
    }

    /// Adds the time of one forward.
    pub(super) fn spend(&mut self, queued: Duration, computed: Duration) {
        let micros = |d: Duration| u32::try_from(d.as_micros()).unwrap_or(u32::MAX);
        self.spent.queue_us = self.spent.queue_us.saturating_add(micros(queued));
        self.spent.compute_us = self.spent.compute_us.saturating_add(micros(computed));
    }

    /// The trace up to and with this stage; the count begins anew.
    pub(super) fn take_trace(&mut self) -> Vec<StageTime> {
        let mut trace = std::mem::take(&mut self.passed);
        trace.push(std::mem::take(&mut self.spent));
        trace
    }

    /// Tokens generated when the one at `position` is counted.
    pub(super) fn generated(&self, position: u32) -> u32 {
        position + 1 - self.prompt_len
    }

    /// Positions that the session may fill.
    pub(super) fn positions(&self) -> u32 {
        self.prompt_len.saturating_add(self.open.max_tokens)
    }
}
