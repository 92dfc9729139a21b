//! One peer of a download: what it has, what it was asked for, how much more it may be asked, and how long it rests.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use shard_wire::torrent::{Bits, Have};

/// Asked of a peer before its rate is known: fills 1 Gbit/s over 30 ms.
const FIRST_WINDOW: u64 = 4 << 20;
/// A slow peer has its next piece to send while the last one arrives.
const LEAST_WINDOW: u64 = 2 << 20;
/// Fills 1 Gbit/s over 100 ms, which is 12.5 MB.
const MOST_WINDOW: u64 = 16 << 20;
/// The window holds what a peer gave in so much time: more than a round trip, less than what hurts when it is lost.
const WINDOW_TIME: Duration = Duration::from_millis(500);
/// Requests under way, however small their pieces: what a server takes from one stream without answering.
pub(in crate::torrent) const MAX_ASKED: usize = 128;
/// The rate is measured over so long.
const RATE_TIME: Duration = Duration::from_millis(500);
/// First rest of a peer that was lost; doubled each time.
const LOST_REST: Duration = Duration::from_secs(1);
const LOST_REST_MOST: Duration = Duration::from_secs(60);
/// First rest of a busy peer; doubled each time.
const BUSY_REST: Duration = Duration::from_millis(500);
const BUSY_REST_MOST: Duration = Duration::from_secs(8);
/// Until a seeder that has given a piece to somebody else is asked for it again.
const ELSEWHERE_REST: Duration = Duration::from_secs(2);
/// Pieces that a peer said it had and did not, one after the other: it is of no use.
const MAX_LACKS: u32 = 8;

pub(super) struct Peer {
    link: Link,
    bits: Bits,
    whole: bool,
    asked: HashSet<u32>,
    asked_bytes: u64,
    /// Times that it was lost since it last gave something.
    strikes: u32,
    busies: u32,
    busy_until: Duration,
    lacks: u32,
    /// Pieces that it gave to others, and until when it is not asked for them.
    resting: HashMap<u32, Duration>,
    sparing: bool,
    /// It has nothing that is wanted, as last looked.
    dry: bool,
    rate: Rate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Link {
    Opening,
    Open,
    Away { until: Duration },
}

#[derive(Default)]
struct Rate {
    since: Duration,
    bytes: u64,
    per_second: Option<u64>,
}

impl Peer {
    pub(super) fn new(pieces: usize) -> Self {
        Self {
            link: Link::Opening,
            bits: Bits::new(pieces),
            whole: false,
            asked: HashSet::new(),
            asked_bytes: 0,
            strikes: 0,
            busies: 0,
            busy_until: Duration::ZERO,
            lacks: 0,
            resting: HashMap::new(),
            sparing: false,
            dry: false,
            rate: Rate::default(),
        }
    }

    /// It says what it has. Returns which pieces it was counted for until now.
    pub(super) fn open(&mut self, have: &Have, now: Duration) -> Bits {
        let pieces = self.bits.pieces();
        let was = self.counted();
        if self.link != Link::Open {
            self.link = Link::Open;
            self.rate = Rate { since: now, ..Rate::default() };
        }
        self.dry = false;
        match have {
            Have::Whole => {
                self.whole = true;
                let mut bits = Bits::new(pieces);
                (0..pieces).for_each(|piece| bits.set(piece));
                self.bits = bits;
            }
            Have::Some { bits, .. } => {
                self.whole = false;
                self.bits = bits.clone();
            }
        }
        was
    }

    /// The link is gone. Returns what it was asked for, and which pieces it was counted for.
    pub(super) fn close(&mut self) -> (Vec<u32>, Bits) {
        let counted = self.counted();
        self.bits = Bits::new(self.bits.pieces());
        self.asked_bytes = 0;
        (self.asked.drain().collect(), counted)
    }

    /// Only unfinished peers count: whole ones have every piece alike.
    fn counted(&self) -> Bits {
        if self.whole { Bits::new(self.bits.pieces()) } else { self.bits.clone() }
    }

    pub(super) fn lost(&mut self, now: Duration) {
        let rest = LOST_REST.saturating_mul(1 << self.strikes.min(6)).min(LOST_REST_MOST);
        self.link = Link::Away { until: now + rest };
        self.strikes += 1;
        self.lacks = 0;
    }

    pub(super) fn busy(&mut self, now: Duration) {
        // All that it was asked for comes back busy: that is one time.
        if now >= self.busy_until {
            let rest = BUSY_REST.saturating_mul(1 << self.busies.min(6)).min(BUSY_REST_MOST);
            self.busies += 1;
            self.busy_until = now + rest;
        }
    }

    pub(super) fn elsewhere(&mut self, piece: u32, now: Duration) {
        self.sparing = true;
        self.resting.insert(piece, now + ELSEWHERE_REST);
    }

    /// It does not have a piece after all. True where it was counted for it.
    pub(super) fn lacks(&mut self, piece: usize) -> bool {
        self.lacks += 1;
        let had = self.bits.has(piece);
        self.bits.clear(piece);
        had && !self.whole
    }

    pub(super) fn is_useless(&self) -> bool {
        self.lacks >= MAX_LACKS
    }

    /// Time has passed. True when it is to be connected again.
    pub(super) fn tick(&mut self, now: Duration) -> bool {
        let resting = self.resting.len();
        self.resting.retain(|_, until| *until > now);
        if self.resting.len() < resting {
            self.dry = false;
        }
        match self.link {
            Link::Away { until } if until <= now => {
                self.link = Link::Opening;
                true
            }
            _ => false,
        }
    }

    pub(super) fn asked(&mut self, piece: u32, size: u64, now: Duration) {
        if self.asked.is_empty() {
            // Time in which it was asked for nothing says nothing about its rate.
            (self.rate.since, self.rate.bytes) = (now, 0);
        }
        if self.asked.insert(piece) {
            self.asked_bytes += size;
        }
    }

    pub(super) fn was_asked(&self, piece: u32) -> bool {
        self.asked.contains(&piece)
    }

    /// It answered for a piece. False where it was not asked.
    pub(super) fn answered(&mut self, piece: u32, size: u64) -> bool {
        let was_asked = self.asked.remove(&piece);
        if was_asked {
            self.asked_bytes = self.asked_bytes.saturating_sub(size);
        }
        was_asked
    }

    pub(super) fn gave(&mut self, size: u64, now: Duration) {
        (self.strikes, self.busies, self.lacks) = (0, 0, 0);
        self.rate.bytes += size;
        let elapsed = now.saturating_sub(self.rate.since);
        if elapsed >= RATE_TIME {
            let per_second = self.rate.bytes as f64 / elapsed.as_secs_f64();
            self.rate = Rate { since: now, bytes: 0, per_second: Some(per_second as u64) };
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.link == Link::Open
    }

    pub(super) fn is_away(&self) -> bool {
        matches!(self.link, Link::Away { .. })
    }

    pub(super) fn strikes(&self) -> u32 {
        self.strikes
    }

    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    pub(super) fn is_sparing(&self) -> bool {
        self.sparing
    }

    pub(super) fn may_be_asked(&self, now: Duration) -> bool {
        self.is_open() && now >= self.busy_until && self.asked_bytes < self.window()
    }

    pub(super) fn has_room(&self, size: u64) -> bool {
        self.asked.is_empty() || (self.asked.len() < MAX_ASKED && self.asked_bytes + size <= self.window())
    }

    /// One piece, while a peer that was busy has not given anything yet.
    fn window(&self) -> u64 {
        if self.busies > 0 {
            return 1;
        }
        let held = |rate: u64| (rate as f64 * WINDOW_TIME.as_secs_f64()) as u64;
        self.rate.per_second.map_or(FIRST_WINDOW, |rate| held(rate).clamp(LEAST_WINDOW, MOST_WINDOW))
    }

    pub(super) fn gives(&self, piece: u32, now: Duration) -> bool {
        self.bits.has(piece as usize) && self.resting.get(&piece).is_none_or(|until| *until <= now)
    }

    pub(super) fn is_dry(&self) -> bool {
        self.dry
    }

    pub(super) fn run_dry(&mut self) {
        self.dry = true;
    }

    pub(super) fn look_again(&mut self) {
        self.dry = false;
    }
}
