//! A bit for each piece of a file.

use thiserror::Error;

/// Which pieces there are: piece `i` is bit `i % 8` of byte `i / 8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bits {
    bytes: Vec<u8>,
    pieces: usize,
    set: usize,
}

/// Why bytes are not the bits of a file.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BitsError {
    /// Too few, or too many.
    #[error("{bytes} bytes are not a bit for each of {pieces} pieces")]
    Length {
        /// Bytes there are.
        bytes: usize,
        /// Pieces of the file.
        pieces: usize,
    },
    /// A bit stands for no piece.
    #[error("a bit is set beyond the last of {pieces} pieces")]
    Beyond {
        /// Pieces of the file.
        pieces: usize,
    },
}

impl Bits {
    /// None of `pieces`.
    pub fn new(pieces: usize) -> Self {
        Self { bytes: vec![0; pieces.div_ceil(8)], pieces, set: 0 }
    }

    /// Reads the bits of a file of `pieces` pieces.
    ///
    /// # Errors
    /// Where they are of another file.
    pub fn from_bytes(bytes: &[u8], pieces: usize) -> Result<Self, BitsError> {
        if bytes.len() != pieces.div_ceil(8) {
            return Err(BitsError::Length { bytes: bytes.len(), pieces });
        }
        let used = pieces % 8;
        if used > 0 && bytes.last().is_some_and(|last| last >> used != 0) {
            return Err(BitsError::Beyond { pieces });
        }
        let set = bytes.iter().map(|byte| byte.count_ones() as usize).sum();
        Ok(Self { bytes: bytes.to_vec(), pieces, set })
    }

    /// As they are sent and stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Pieces of the file.
    pub fn pieces(&self) -> usize {
        self.pieces
    }

    /// How many are there.
    pub fn count(&self) -> usize {
        self.set
    }

    /// All are there.
    pub fn is_full(&self) -> bool {
        self.set == self.pieces
    }

    /// Piece `piece` is there.
    pub fn has(&self, piece: usize) -> bool {
        piece < self.pieces && self.bytes[piece / 8] >> (piece % 8) & 1 == 1
    }

    /// Piece `piece` is there from now on. A piece that the file does not have is none.
    pub fn set(&mut self, piece: usize) {
        if piece < self.pieces && !self.has(piece) {
            self.bytes[piece / 8] |= 1 << (piece % 8);
            self.set += 1;
        }
    }

    /// Piece `piece` is there no longer.
    pub fn clear(&mut self, piece: usize) {
        if self.has(piece) {
            self.bytes[piece / 8] &= !(1 << (piece % 8));
            self.set -= 1;
        }
    }

    /// The pieces that are there.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.pieces).filter(|piece| self.has(*piece))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bits_are_a_set_and_come_back(pieces in 0usize..70, steps in prop::collection::vec((0usize..80, any::<bool>()), 0..60)) {
            let mut bits = Bits::new(pieces);
            let mut set = std::collections::BTreeSet::new();
            for (piece, on) in steps {
                if on {
                    bits.set(piece);
                    set.extend((piece < pieces).then_some(piece));
                } else {
                    bits.clear(piece);
                    set.remove(&piece);
                }
            }
            prop_assert_eq!(bits.iter().collect::<Vec<_>>(), set.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(bits.count(), set.len());
            prop_assert_eq!(bits.is_full(), set.len() == pieces);
            prop_assert_eq!(Bits::from_bytes(bits.as_bytes(), pieces), Ok(bits));
        }
    }
}
