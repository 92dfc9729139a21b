//! What of one file has left this node, how often, and whether a piece may leave it now. Pure: the time is an argument.
//!
//! **Initial seeding**: the origin's link is what a fleet waits for, so no piece leaves it a second time before every
//! piece of the file has left once; who asks for one is sent elsewhere, to those that have it. With three ways out, so
//! that nobody waits for ever: nobody else is asking for the file; or nobody that the piece was given to has been heard
//! of for [`GONE`]; or this peer has been asking for it for [`UNREACHABLE`], so those that have it do not give it.
//! When all have left once, only what has left a moment ago ([`SETTLING`]) is elsewhere: the others are about to hear of
//! it, and would otherwise all ask for the last pieces here.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use shard_wire::manifest;

/// A peer that asks for nothing of the file for so long is gone.
pub(super) const GONE: Duration = Duration::from_secs(10);
/// Somebody has the piece by now and is not reached.
pub(super) const UNREACHABLE: Duration = Duration::from_secs(30);
/// A piece arrives at a peer, and the others hear of it.
pub(super) const SETTLING: Duration = Duration::from_secs(5);
/// Peers that are remembered for one file, and receivers of one piece.
const MAX_PEERS: usize = 256;
const MAX_RECEIVERS: usize = 4;
/// Pieces that peers have asked for in vain; who asks for more of them waits without that way out.
const MAX_REFUSED: usize = 1 << 16;

/// Where the pieces of a file lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// Offset and size, in the order of the file.
    places: Vec<(u64, u64)>,
}

impl Layout {
    /// Of a file that a manifest names.
    pub(super) fn of(file: &manifest::File) -> Self {
        Self { places: file.pieces.iter().map(|piece| (piece.offset, piece.size)).collect() }
    }

    /// How many pieces there are.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// The piece that lies exactly there.
    pub(super) fn find(&self, offset: u64, length: u32) -> Option<usize> {
        let found = self.places.binary_search_by_key(&offset, |(offset, _)| *offset).ok()?;
        self.places.get(found).filter(|(_, size)| *size == u64::from(length)).map(|_| found)
    }
}

/// What has left this node of one file.
#[derive(Debug)]
pub(super) struct Ledger<P> {
    /// How often each piece was given.
    times: Vec<u32>,
    bytes: u64,
    origin: Option<Origin<P>>,
}

#[derive(Debug)]
struct Origin<P> {
    /// Pieces that have not left yet.
    left: usize,
    given_to: HashMap<usize, Vec<(P, Instant)>>,
    heard: HashMap<P, Instant>,
    /// Since when a peer has asked for a piece in vain.
    refused: HashMap<(P, usize), Instant>,
}

impl<P: Copy + Eq + Hash> Ledger<P> {
    pub(super) fn new(pieces: usize, initial_seeding: bool) -> Self {
        let origin =
            Origin { left: pieces, given_to: HashMap::new(), heard: HashMap::new(), refused: HashMap::new() };
        Self { times: vec![0; pieces], bytes: 0, origin: initial_seeding.then_some(origin) }
    }

    /// Whether `peer` is given `piece` now; if so it counts as given.
    pub(super) fn may_leave(&mut self, peer: P, piece: usize, now: Instant) -> bool {
        let Some(times) = self.times.get_mut(piece) else { return false };
        let may = match &mut self.origin {
            None => true,
            Some(origin) => origin.may_leave(peer, piece, *times, now),
        };
        if may {
            *times += 1;
        }
        may
    }

    /// `bytes` of a piece, the last of it, have reached a peer.
    pub(super) fn left(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// The piece did not reach the peer.
    pub(super) fn came_back(&mut self, peer: P, piece: usize) {
        let Some(times) = self.times.get_mut(piece) else { return };
        *times = times.saturating_sub(1);
        if let Some(origin) = &mut self.origin {
            origin.left += usize::from(*times == 0);
            if let Some(receivers) = origin.given_to.get_mut(&piece) {
                receivers.retain(|(receiver, _)| *receiver != peer);
            }
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Pieces by how often they were given.
    pub(super) fn histogram(&self) -> Vec<(u32, usize)> {
        let mut counts = std::collections::BTreeMap::new();
        self.times.iter().for_each(|times| *counts.entry(*times).or_default() += 1);
        counts.into_iter().collect()
    }
}

impl<P: Copy + Eq + Hash> Origin<P> {
    fn may_leave(&mut self, peer: P, piece: usize, times: u32, now: Instant) -> bool {
        if self.heard.len() >= MAX_PEERS || self.refused.len() >= MAX_REFUSED {
            self.heard.retain(|_, at| now.saturating_duration_since(*at) < GONE);
            self.refused.retain(|(peer, _), _| self.heard.contains_key(peer));
        }
        self.heard.insert(peer, now);
        let is_here = |other: &P| {
            *other != peer
                && self.heard.get(other).is_some_and(|at| now.saturating_duration_since(*at) < GONE)
        };
        let alone = !self.heard.keys().any(is_here);
        let counts = |at: &Instant| self.left > 0 || now.saturating_duration_since(*at) < SETTLING;
        let held = self
            .given_to
            .get(&piece)
            .is_some_and(|receivers| receivers.iter().any(|(receiver, at)| is_here(receiver) && counts(at)));
        let since = self.refused.get(&(peer, piece));
        let unreachable = since.is_some_and(|at| now.saturating_duration_since(*at) >= UNREACHABLE);
        if times > 0 && held && !alone && !unreachable {
            if self.refused.len() < MAX_REFUSED {
                self.refused.entry((peer, piece)).or_insert(now);
            }
            return false;
        }
        self.refused.remove(&(peer, piece));
        let receivers = self.given_to.entry(piece).or_default();
        receivers.retain(|(receiver, _)| *receiver != peer);
        if receivers.len() >= MAX_RECEIVERS {
            receivers.remove(0);
        }
        receivers.push((peer, now));
        self.left -= usize::from(times == 0);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_exactly() {
        let layout = Layout { places: manifest::cut_tensor(0, (2 << 20) + 5).collect() };
        assert_eq!(layout.len(), 3);
        for (offset, length, piece) in [
            (0, 1 << 20, Some(0)),
            (2 << 20, 5, Some(2)),
            (2 << 20, 4, None),
            (1, 1 << 20, None),
            (9 << 20, 5, None),
        ] {
            assert_eq!(layout.find(offset, length), piece, "{offset}+{length}");
        }
    }

    #[test]
    fn without_initial_seeding_every_piece_leaves_as_often_as_it_is_asked_for() {
        let mut ledger = Ledger::new(2, false);
        let now = Instant::now();
        assert!((0..3).all(|peer| ledger.may_leave(peer, 0, now)));
        assert_eq!(ledger.histogram(), [(0, 1), (3, 1)]);
        assert!(!ledger.may_leave(0, 2, now), "there is no such piece");
        ledger.left(7);
        assert_eq!(ledger.bytes(), 7);
    }

    #[test]
    fn no_piece_leaves_twice_before_all_have_left_once() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut ledger = Ledger::new(3, true);
        for (second, peer, piece, may, why) in [
            (0, 'a', 0, true, "the first"),
            (0, 'a', 0, true, "it asks again and nobody else does: it has lost it"),
            (0, 'b', 0, false, "a has it"),
            (0, 'b', 1, true, "nobody has it"),
            (1, 'a', 1, false, "b has it"),
            (9, 'b', 0, false, "a was heard of 8 s ago"),
            (11, 'b', 0, true, "a is gone, and b is alone"),
            (12, 'a', 1, false, "b was heard of"),
            (12, 'c', 1, false, "b was heard of"),
            (22, 'c', 0, true, "all that have it are gone"),
            (22, 'a', 0, false, "c has it"),
            (23, 'a', 2, true, "nobody has it: now all have left once"),
            (24, 'b', 2, false, "the others are about to hear of it"),
            (24, 'b', 1, true, "normal service"),
            (28, 'b', 2, true, "normal service"),
        ] {
            assert_eq!(
                ledger.may_leave(peer, piece, at(second)),
                may,
                "at {second} s, {peer} asks for {piece}: {why}"
            );
        }
    }

    #[test]
    fn who_asks_long_enough_is_given_it() {
        let begin = Instant::now();
        let mut ledger = Ledger::new(2, true);
        assert!(ledger.may_leave('a', 0, begin));
        for seconds in (0..30).step_by(5) {
            let now = begin + Duration::from_secs(seconds);
            ledger.may_leave('a', 9, now);
            assert!(!ledger.may_leave('b', 0, now), "{seconds}");
            // It is still there, as its other requests show.
            ledger.origin.as_mut().unwrap().heard.insert('a', now);
        }
        assert!(ledger.may_leave('b', 0, begin + UNREACHABLE));
    }

    #[test]
    fn what_did_not_arrive_has_not_left() {
        let now = Instant::now();
        let mut ledger = Ledger::new(2, true);
        assert!(ledger.may_leave('b', 1, now));
        assert!(ledger.may_leave('a', 0, now), "all have left");
        ledger.came_back('a', 0);
        assert_eq!(ledger.histogram(), [(0, 1), (1, 1)]);
        let mut ledger = Ledger::new(3, true);
        assert!(ledger.may_leave('a', 0, now));
        ledger.came_back('a', 0);
        assert!(ledger.may_leave('b', 0, now));
        assert!(!ledger.may_leave('a', 0, now));
    }
}
