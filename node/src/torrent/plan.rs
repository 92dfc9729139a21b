//! Which piece of one file is asked from whom. Pure: events and the time go in, actions come out.
//!
//! ```text
//!  Seeders ─▶ Connect ─▶ Has ─▶ Ask, a window of bytes per peer, rarest first
//!                                 ├─ Stored   one less; the window follows the peer's rate
//!                                 ├─ Bad      the peer is banned for the file, all it was asked is asked elsewhere
//!                                 ├─ Refused  Busy: the peer rests · Elsewhere: the piece rests · else: it lacks it
//!                                 └─ Lost     the peer rests, longer each time, then Connect again
//! ```
//! - **Rarest first**: the pieces that the fewest unfinished peers have. Among equals in the order of the file while
//!   only whole seeders are known, so that the file is hashed beside the transfer; in a random order from the moment
//!   another node is seen to be fetching it, so that nodes which begin together ask for different pieces.
//! - **Endgame**: a peer that has nothing else to give is asked for pieces that another one was asked a while ago. The
//!   second copy is dropped.
//! - **A sparing seeder**, one that has answered `Elsewhere`, is asked only for what nobody else has, unless nothing
//!   arrives.

mod peer;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;
mod wanted;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use shard_wire::torrent::{Bits, Have};

pub(super) use self::peer::MAX_ASKED;

use self::peer::Peer;
use self::wanted::Wanted;

/// Peers of one download: beyond them more add streams, not speed.
pub(super) const MAX_PEERS: usize = 32;
/// Banned peers that are remembered; who has more identities than that is let in again, and banned again.
const MAX_BANNED: usize = 1024;
/// A piece is asked from so many at once.
const MAX_COPIES: u8 = 2;
/// Before a piece is asked from a second one: longer than a round trip and a queue.
const ENDGAME_AFTER: Duration = Duration::from_secs(2);
/// Nothing has arrived for so long: a sparing seeder is asked for everything.
const STARVING_AFTER: Duration = Duration::from_secs(3);
/// The driver sends [`Event::Tick`] so often; all waits are longer.
pub(super) const TICK: Duration = Duration::from_millis(250);

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event<P> {
    /// Who may have the file, as known now.
    Seeders(Vec<P>),
    /// A peer says what it has.
    Has {
        /// The peer.
        peer: P,
        /// Its pieces.
        have: Have,
    },
    /// A piece is verified and on disk.
    Stored {
        /// Who gave it.
        peer: P,
        /// Which.
        piece: u32,
    },
    /// A peer gave other bytes.
    Bad {
        /// The peer.
        peer: P,
        /// What it was asked for.
        piece: u32,
    },
    /// A peer does not give a piece.
    Refused {
        /// The peer.
        peer: P,
        /// Which.
        piece: u32,
        /// Why.
        why: Refusal,
    },
    /// A peer cannot be reached, or has stopped answering.
    Lost {
        /// The peer.
        peer: P,
    },
    /// Time has passed.
    Tick,
}

/// Why a peer does not give a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It gives to others now.
    Busy,
    /// It has given the piece to another one.
    Elsewhere,
    /// It does not have it, or cannot read it.
    Lacks,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action<P> {
    /// Open a link to a peer.
    Connect(P),
    /// Ask it for a piece.
    Ask {
        /// The peer.
        peer: P,
        /// Which.
        piece: u32,
    },
    /// Close the link to a peer.
    Close(P),
}

/// A piece under way.
#[derive(Clone, Copy, Debug)]
struct Asked {
    copies: u8,
    since: Duration,
}

/// One download. `P` names a peer.
pub(super) struct Plan<P> {
    sizes: Vec<u64>,
    done: Bits,
    wanted: Wanted,
    asked: HashMap<u32, Asked>,
    peers: BTreeMap<P, Peer>,
    banned: HashSet<P>,
    last_stored: Duration,
}

impl<P: Copy + Ord + std::hash::Hash> Plan<P> {
    /// A download of pieces of these sizes, of which those in `done` are there. `seed` differs from node to node.
    pub(super) fn new(sizes: Vec<u64>, done: Bits, seed: u64, now: Duration) -> Self {
        let mut wanted = Wanted::new(sizes.len(), seed);
        (0..sizes.len()).filter(|piece| !done.has(*piece)).for_each(|piece| wanted.add(piece as u32));
        Self {
            sizes,
            done,
            wanted,
            asked: HashMap::new(),
            peers: BTreeMap::new(),
            banned: HashSet::new(),
            last_stored: now,
        }
    }

    /// Every piece is there.
    pub(super) fn is_done(&self) -> bool {
        self.done.is_full()
    }

    /// A piece is not there.
    pub(super) fn is_missing(&self, piece: u32) -> bool {
        !self.done.has(piece as usize)
    }

    /// Bytes of pieces that are not there.
    pub(super) fn missing_bytes(&self) -> u64 {
        let missing = self.sizes.iter().enumerate().filter(|(piece, _)| !self.done.has(*piece));
        missing.map(|(_, size)| size).sum()
    }

    /// Peers that have something and are not resting.
    pub(super) fn active_peers(&self) -> usize {
        self.peers.values().filter(|peer| peer.is_open()).count()
    }

    /// Takes an event at a time that never goes back, and says what to do.
    pub(super) fn on(&mut self, event: Event<P>, now: Duration) -> Vec<Action<P>> {
        let mut actions = Vec::new();
        match event {
            Event::Seeders(seeders) => self.on_seeders(&seeders, &mut actions),
            Event::Has { peer, have } => self.on_has(peer, &have, now),
            Event::Stored { peer, piece } => self.on_stored(peer, piece, now),
            Event::Bad { peer, piece } => {
                self.take_back(peer, piece);
                self.forget(peer);
                self.peers.remove(&peer);
                if self.banned.len() >= MAX_BANNED {
                    self.banned.clear();
                }
                self.banned.insert(peer);
                actions.push(Action::Close(peer));
            }
            Event::Refused { peer, piece, why } => self.on_refused(peer, piece, why, now, &mut actions),
            Event::Lost { peer } => {
                self.forget(peer);
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.lost(now);
                }
            }
            Event::Tick => self.on_tick(now, &mut actions),
        }
        if !self.is_done() {
            self.fill(now, &mut actions);
        }
        actions
    }

    fn on_seeders(&mut self, seeders: &[P], actions: &mut Vec<Action<P>>) {
        // Who is gone from the list goes on giving while it can.
        self.peers.retain(|peer, state| seeders.contains(peer) || !state.is_away());
        for &seeder in seeders {
            if self.peers.contains_key(&seeder) || self.banned.contains(&seeder) {
                continue;
            }
            if self.peers.len() >= MAX_PEERS {
                let worst = self.peers.iter().filter(|(_, state)| state.is_away());
                let Some((&worst, _)) = worst.max_by_key(|(_, state)| state.strikes()) else { return };
                self.peers.remove(&worst);
            }
            self.peers.insert(seeder, Peer::new(self.sizes.len()));
            actions.push(Action::Connect(seeder));
        }
    }

    fn on_has(&mut self, peer: P, have: &Have, now: Duration) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let was = state.open(have, now);
        match have {
            Have::Whole => was.iter().for_each(|piece| self.wanted.shift(piece as u32, false)),
            Have::Some { bits, .. } => {
                // Somebody else is fetching.
                self.wanted.scatter();
                let changed = (0..self.sizes.len()).filter(|piece| was.has(*piece) != bits.has(*piece));
                changed.for_each(|piece| self.wanted.shift(piece as u32, bits.has(piece)));
            }
        }
    }

    fn on_stored(&mut self, peer: P, piece: u32, now: Duration) {
        let size = self.size(piece);
        if let Some(state) = self.peers.get_mut(&peer) {
            state.answered(piece, size);
            state.gave(size, now);
        }
        // It may be of a peer that was lost meanwhile, and wanted again: it is there all the same.
        self.asked.remove(&piece);
        self.wanted.remove(piece);
        self.done.set(piece as usize);
        self.last_stored = now;
    }

    fn on_refused(&mut self, peer: P, piece: u32, why: Refusal, now: Duration, actions: &mut Vec<Action<P>>) {
        self.take_back(peer, piece);
        let Some(state) = self.peers.get_mut(&peer) else { return };
        match why {
            Refusal::Busy => state.busy(now),
            Refusal::Elsewhere => {
                self.wanted.scatter();
                state.elsewhere(piece, now);
            }
            Refusal::Lacks => {
                let counted = state.lacks(piece as usize);
                if state.is_useless() {
                    self.forget(peer);
                    if let Some(state) = self.peers.get_mut(&peer) {
                        state.lost(now);
                    }
                    actions.push(Action::Close(peer));
                } else if counted {
                    self.wanted.shift(piece, false);
                }
            }
        }
    }

    fn on_tick(&mut self, now: Duration, actions: &mut Vec<Action<P>>) {
        for (peer, state) in &mut self.peers {
            if state.tick(now) {
                actions.push(Action::Connect(*peer));
            }
        }
    }

    /// The peer does not answer for `piece` any more.
    fn take_back(&mut self, peer: P, piece: u32) {
        let size = self.size(piece);
        if self.peers.get_mut(&peer).is_some_and(|state| state.answered(piece, size)) {
            self.want_again(piece);
        }
    }

    /// The peer answers for nothing any more.
    fn forget(&mut self, peer: P) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let (asked, counted) = state.close();
        counted.iter().for_each(|piece| self.wanted.shift(piece as u32, false));
        asked.into_iter().for_each(|piece| self.want_again(piece));
    }

    fn want_again(&mut self, piece: u32) {
        let Some(asked) = self.asked.get_mut(&piece) else { return };
        asked.copies -= 1;
        if asked.copies == 0 {
            self.asked.remove(&piece);
            self.wanted.add(piece);
            self.peers.values_mut().for_each(Peer::look_again);
        }
    }

    /// Fills the windows, a piece at a time for each peer, so that the last pieces are shared out. Unfinished peers
    /// come first: what they have need not leave a whole seeder again.
    fn fill(&mut self, now: Duration, actions: &mut Vec<Action<P>>) {
        let mut order: Vec<(bool, P)> = self
            .peers
            .iter()
            .filter(|(_, state)| state.may_be_asked(now))
            .map(|(peer, state)| (state.is_whole(), *peer))
            .collect();
        order.sort_unstable();
        while !order.is_empty() {
            order.retain(|(_, peer)| match self.pick(*peer, now) {
                None => false,
                Some(piece) => {
                    self.ask(*peer, piece, now);
                    actions.push(Action::Ask { peer: *peer, piece });
                    true
                }
            });
        }
    }

    fn pick(&mut self, peer: P, now: Duration) -> Option<u32> {
        let starving = now.saturating_sub(self.last_stored) >= STARVING_AFTER;
        let state = self.peers.get_mut(&peer)?;
        let size = |piece: u32| self.sizes.get(piece as usize).copied().unwrap_or_default();
        if !state.is_dry() {
            let only_alone = state.is_sparing() && !starving;
            let found = self
                .wanted
                .iter()
                .take_while(|(others, _)| !only_alone || *others == 0)
                .find(|(_, piece)| state.gives(*piece, now));
            match found {
                Some((_, piece)) => return state.has_room(size(piece)).then_some(piece),
                // What only a starving node asks for may be asked for soon.
                None if !only_alone => state.run_dry(),
                None => {}
            }
        }
        if state.is_sparing() && !starving {
            return None;
        }
        let late = self.asked.iter().filter(|(piece, asked)| {
            asked.copies < MAX_COPIES
                && now.saturating_sub(asked.since) >= ENDGAME_AFTER
                && state.gives(**piece, now)
                && !state.was_asked(**piece)
        });
        let (&piece, _) = late.min_by_key(|(piece, asked)| (asked.since, **piece))?;
        state.has_room(size(piece)).then_some(piece)
    }

    fn ask(&mut self, peer: P, piece: u32, now: Duration) {
        let size = self.size(piece);
        self.wanted.remove(piece);
        self.asked.entry(piece).or_insert(Asked { copies: 0, since: now }).copies += 1;
        if let Some(state) = self.peers.get_mut(&peer) {
            state.asked(piece, size, now);
        }
    }

    fn size(&self, piece: u32) -> u64 {
        self.sizes.get(piece as usize).copied().unwrap_or_default()
    }
}
