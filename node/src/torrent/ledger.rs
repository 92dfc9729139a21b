//! What of one file has left this node, how often, and whether a piece may leave it now. Pure: the time is an argument.
//!
//! A piece has **left** when a peer says that it got it: what was only given may wait in a transport's buffers.
//!
//! **Initial seeding**: the origin's link is what a fleet waits for, so no piece is given a second time before every
//! piece of the file has left once; who asks for one is sent elsewhere, to those that get it. With three ways out, so
//! that nobody waits for ever: whoever was given the piece has neither asked nor confirmed anything for [`STALLED`]; or
//! whoever got it has not been heard of for [`GONE`]; or others have it for [`UNREACHABLE`], and this peer asks all the
//! same, so they do not give it. When all have left once, only what has left a moment ago ([`SETTLING`]) is elsewhere:
//! the others are about to hear of it, and would otherwise all ask for the last pieces here.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use shard_wire::manifest;

/// A peer that asks for nothing of the file for so long is gone.
pub(super) const GONE: Duration = Duration::from_secs(10);
/// A peer without a stream is gone after so long: it opens one again within a second if it lives.
const AWAY: Duration = Duration::from_secs(2);
/// A peer that was given pieces and takes none for so long does not get them: a MiB takes a slow one no longer.
const STALLED: Duration = Duration::from_secs(60);
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
    /// How often each piece was given, those under way included.
    times: Vec<u32>,
    /// Which pieces have left.
    left: Vec<bool>,
    /// How many have not.
    pending: usize,
    bytes: u64,
    origin: Option<Origin<P>>,
}

#[derive(Debug)]
struct Origin<P> {
    receivers: HashMap<usize, Vec<Receiver<P>>>,
    heard: HashMap<P, Instant>,
    /// Since when a peer has asked for a piece in vain.
    refused: HashMap<(P, usize), Instant>,
}

/// Who was given a piece, and when it said that it got it.
#[derive(Debug)]
struct Receiver<P> {
    peer: P,
    got: Option<Instant>,
}

impl<P: Copy + Eq + Hash> Ledger<P> {
    pub(super) fn new(pieces: usize, initial_seeding: bool) -> Self {
        let origin = Origin { receivers: HashMap::new(), heard: HashMap::new(), refused: HashMap::new() };
        Self {
            times: vec![0; pieces],
            left: vec![false; pieces],
            pending: pieces,
            bytes: 0,
            origin: initial_seeding.then_some(origin),
        }
    }

    /// Whether `peer` is given `piece` now; if so it counts as given.
    pub(super) fn may_leave(&mut self, peer: P, piece: usize, now: Instant) -> bool {
        let Some(times) = self.times.get_mut(piece) else { return false };
        let may = match &mut self.origin {
            None => true,
            Some(origin) => origin.may_leave(peer, piece, self.pending > 0, now),
        };
        if may {
            *times += 1;
        }
        may
    }

    /// `bytes` of a piece, the last of it, were handed to the transport.
    pub(super) fn sent(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// The peer got the piece.
    pub(super) fn left(&mut self, peer: P, piece: usize, now: Instant) {
        let Some(left) = self.left.get_mut(piece) else { return };
        self.pending -= usize::from(!*left);
        *left = true;
        if let Some(origin) = &mut self.origin {
            origin.heard.insert(peer, now);
            let receivers = origin.receivers.get_mut(&piece);
            let receiver = receivers.and_then(|all| all.iter_mut().find(|receiver| receiver.peer == peer));
            if let Some(receiver) = receiver {
                receiver.got = Some(now);
            }
        }
    }

    /// The piece did not reach the peer.
    pub(super) fn came_back(&mut self, peer: P, piece: usize) {
        let Some(times) = self.times.get_mut(piece) else { return };
        *times = times.saturating_sub(1);
        if let Some(receivers) = self.origin.as_mut().and_then(|origin| origin.receivers.get_mut(&piece)) {
            receivers.retain(|receiver| receiver.peer != peer || receiver.got.is_some());
        }
    }

    /// The peer has no stream any more.
    pub(super) fn is_away(&mut self, peer: P, now: Instant) {
        let heard = self.origin.as_mut().and_then(|origin| origin.heard.get_mut(&peer));
        if let (Some(heard), Some(at)) = (heard, now.checked_sub(GONE - AWAY)) {
            *heard = at.min(*heard);
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Pieces that have not left.
    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    /// Pieces by how often they were given.
    pub(super) fn histogram(&self) -> Vec<(u32, usize)> {
        let mut counts = std::collections::BTreeMap::new();
        self.times.iter().for_each(|times| *counts.entry(*times).or_default() += 1);
        counts.into_iter().collect()
    }
}

impl<P: Copy + Eq + Hash> Origin<P> {
    fn may_leave(&mut self, peer: P, piece: usize, first_round: bool, now: Instant) -> bool {
        if self.heard.len() >= MAX_PEERS || self.refused.len() >= MAX_REFUSED {
            self.heard.retain(|_, at| now.saturating_duration_since(*at) < STALLED);
            self.refused.retain(|(peer, _), _| self.heard.contains_key(peer));
        }
        self.heard.insert(peer, now);
        let since = |at: Instant| now.saturating_duration_since(at);
        let was_heard = |of: P, within| self.heard.get(&of).is_some_and(|at| since(*at) < within);
        let refused = self.refused.get(&(peer, piece)).copied();
        let is_held = |receiver: &Receiver<P>| match receiver.got {
            _ if receiver.peer == peer => false,
            None => was_heard(receiver.peer, STALLED),
            Some(got) => {
                let in_vain = refused.is_some_and(|at| since(at.max(got)) >= UNREACHABLE);
                was_heard(receiver.peer, GONE) && (first_round || since(got) < SETTLING) && !in_vain
            }
        };
        if self.receivers.get(&piece).is_some_and(|receivers| receivers.iter().any(is_held)) {
            if self.refused.len() < MAX_REFUSED {
                self.refused.entry((peer, piece)).or_insert(now);
            }
            return false;
        }
        self.refused.remove(&(peer, piece));
        let receivers = self.receivers.entry(piece).or_default();
        receivers.retain(|receiver| receiver.peer != peer);
        if receivers.len() >= MAX_RECEIVERS {
            receivers.remove(0);
        }
        receivers.push(Receiver { peer, got: None });
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
        ledger.sent(7);
        assert_eq!((ledger.bytes(), ledger.pending()), (7, 2), "sent is not got");
        ledger.left(0, 0, now);
        ledger.left(1, 0, now);
        assert_eq!(ledger.pending(), 1);
    }

    /// What happens to a ledger of three pieces, at a second.
    enum Turn {
        /// A peer asks for a piece: is it given?
        Asks(char, usize, bool),
        Got(char, usize),
        /// It did not get it.
        Lost(char, usize),
        Away(char),
    }
    use Turn::{Asks, Away, Got, Lost};

    fn play(turns: &[(u64, Turn, &str)]) -> Ledger<char> {
        let begin = Instant::now();
        let mut ledger = Ledger::new(3, true);
        for (second, turn, why) in turns {
            let now = begin + Duration::from_secs(*second);
            match *turn {
                Asks(peer, piece, may) => assert_eq!(
                    ledger.may_leave(peer, piece, now),
                    may,
                    "at {second} s, {peer} asks for {piece}: {why}"
                ),
                Got(peer, piece) => ledger.left(peer, piece, now),
                Lost(peer, piece) => ledger.came_back(peer, piece),
                Away(peer) => ledger.is_away(peer, now),
            }
        }
        ledger
    }

    #[test]
    fn no_piece_leaves_twice_before_all_have_left_once() {
        play(&[
            (0, Asks('a', 0, true), "the first"),
            (0, Asks('a', 0, true), "it asks again: it has lost it"),
            (0, Asks('b', 0, false), "it is on its way to a"),
            (1, Got('a', 0), ""),
            (1, Asks('b', 0, false), "a has it"),
            (1, Asks('b', 1, true), "nobody has it"),
            (1, Got('b', 1), ""),
            (1, Asks('a', 1, false), "b has it"),
            (2, Asks('a', 2, true), "nobody has it: all have been given once"),
            (9, Asks('b', 2, false), "it has not left"),
            (9, Asks('b', 0, false), "and the others not again before it has"),
            (10, Got('a', 2), "all have left once"),
            (11, Asks('b', 2, false), "the others are about to hear of it"),
            (11, Asks('b', 0, true), "normal service"),
            (15, Asks('b', 2, true), "normal service"),
        ]);
    }

    #[test]
    fn who_is_gone_holds_nothing() {
        play(&[
            (0, Asks('a', 0, true), "the first"),
            (0, Asks('a', 1, true), "the first"),
            (0, Got('a', 0), ""),
            (9, Asks('b', 0, false), "a was heard of 9 s ago"),
            (10, Asks('b', 0, true), "a is gone"),
            (59, Asks('c', 1, false), "a may be slow"),
            (60, Asks('c', 1, true), "a has stalled"),
            (61, Got('c', 1), ""),
            (61, Away('c'), "its streams have ended"),
            (62, Asks('b', 1, false), "it may come back"),
            (63, Asks('b', 1, true), "it did not"),
        ]);
    }

    #[test]
    fn who_asks_in_vain_long_enough_is_given_it() {
        let mut turns = vec![(0, Asks('a', 0, true), "the first")];
        // It is there, as its other requests show, and slow.
        turns.extend((0..70).step_by(5).map(|second| (second, Asks('a', 2, true), "a is there")));
        turns.extend((1..40).map(|second| (second, Asks('b', 0, false), "on its way")));
        turns.push((40, Got('a', 0), ""));
        turns.extend((40..70).map(|second| (second, Asks('b', 0, false), "a gives it")));
        turns.sort_by_key(|(second, ..)| *second);
        turns.push((70, Asks('b', 0, true), "a does not give it"));
        play(&turns);
    }

    #[test]
    fn what_did_not_arrive_has_not_left() {
        let ledger = play(&[
            (0, Asks('a', 0, true), "the first"),
            (0, Asks('b', 1, true), "the first"),
            (0, Asks('a', 2, true), "the first"),
            (0, Got('b', 1), ""),
            (0, Got('a', 2), ""),
            (0, Lost('a', 0), "its link broke"),
            (0, Asks('b', 0, true), "nobody has it"),
            (0, Asks('a', 0, false), "it is on its way to b"),
        ]);
        assert_eq!((ledger.histogram(), ledger.pending()), (vec![(1, 3)], 1));
    }
}
