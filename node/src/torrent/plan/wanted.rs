//! Pieces that nobody was asked for, the rarest first.

use std::collections::BTreeSet;

use shard_wire::torrent::Bits;

/// A set ordered by (how many unfinished peers have the piece, tie-break, piece).
pub(super) struct Wanted {
    set: BTreeSet<(u16, u32, u32)>,
    /// Of every piece, wanted or not.
    others: Vec<u16>,
    is_wanted: Bits,
    seed: u64,
    scattered: bool,
}

impl Wanted {
    pub(super) fn new(pieces: usize, seed: u64) -> Self {
        Self {
            set: BTreeSet::new(),
            others: vec![0; pieces],
            is_wanted: Bits::new(pieces),
            seed,
            scattered: false,
        }
    }

    /// Pieces, each with the number of unfinished peers that have it.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u16, u32)> + '_ {
        self.set.iter().map(|(others, _, piece)| (*others, *piece))
    }

    pub(super) fn add(&mut self, piece: u32) {
        self.is_wanted.set(piece as usize);
        self.set.insert(self.entry(piece));
    }

    pub(super) fn remove(&mut self, piece: u32) {
        self.set.remove(&self.entry(piece));
        self.is_wanted.clear(piece as usize);
    }

    /// One more unfinished peer has the piece, or one less.
    pub(super) fn shift(&mut self, piece: u32, more: bool) {
        let wanted = self.is_wanted.has(piece as usize) && self.set.remove(&self.entry(piece));
        if let Some(others) = self.others.get_mut(piece as usize) {
            *others = if more { others.saturating_add(1) } else { others.saturating_sub(1) };
        }
        if wanted {
            self.set.insert(self.entry(piece));
        }
    }

    /// Equals are in a random order from now on, not in the order of the file.
    pub(super) fn scatter(&mut self) {
        if std::mem::replace(&mut self.scattered, true) {
            return;
        }
        let pieces: Vec<u32> = self.set.iter().map(|(_, _, piece)| *piece).collect();
        self.set = pieces.into_iter().map(|piece| self.entry(piece)).collect();
    }

    fn entry(&self, piece: u32) -> (u16, u32, u32) {
        let tie = if self.scattered { mix(self.seed, piece) } else { piece };
        (self.others.get(piece as usize).copied().unwrap_or_default(), tie, piece)
    }
}

/// splitmix64: the same for a seed and a piece, and different for others.
fn mix(seed: u64, piece: u32) -> u32 {
    let mut x = seed.wrapping_add(u64::from(piece).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 32) as u32
}
