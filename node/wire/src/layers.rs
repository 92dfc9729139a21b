//! Layer ranges: which layers each shard holds.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The deepest models have 126 layers.
pub const MAX_LAYERS: u32 = 1024;
/// As many as a `ShardCluster` may ask for.
pub const MAX_SHARDS: usize = 256;

/// A half-open range of layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LayerRange {
    /// First layer.
    pub start: u32,
    /// One past the last layer.
    pub end: u32,
}

impl LayerRange {
    /// Layers in the range.
    #[must_use]
    pub fn len(self) -> u32 {
        self.end.saturating_sub(self.start)
    }

    /// There is no layer in the range.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// `0-4`: half-open like the range itself.
impl fmt::Display for LayerRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.end)
    }
}

/// Why layers cannot be shared out like that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayersError {
    /// More shards than layers, or none.
    #[error("{shards} shards of {layers} layers: a shard holds at least one layer (1 to {most} shards)", most = (*layers).min(MAX_SHARDS as u32))]
    ShardCount {
        /// Shards asked for.
        shards: usize,
        /// Layers of the model.
        layers: u32,
    },
    /// No layers, or more than any model has.
    #[error("{layers} layers: 1 to {MAX_LAYERS} are valid")]
    LayerCount {
        /// Layers of the model.
        layers: u32,
    },
    /// The first shard does not begin with the first layer.
    #[error("the first layer start is {start}: it must be 0")]
    First {
        /// The start given.
        start: u32,
    },
    /// Starts do not ascend.
    #[error("layer start {start} does not lie above the one before it, {before}")]
    Order {
        /// The start given.
        start: u32,
        /// The one before it.
        before: u32,
    },
    /// A start is beyond the model.
    #[error("layer start {start} is not a layer of the model, which has {layers} (0 to {})", layers - 1)]
    Beyond {
        /// The start given.
        start: u32,
        /// Layers of the model.
        layers: u32,
    },
}

/// First layers of `shards` shards, with sizes as equal as can be, the larger ones first.
pub fn even_starts(layers: u32, shards: usize) -> Result<Vec<u32>, LayersError> {
    check_counts(layers, shards)?;
    let shards = shards as u32;
    let (size, larger) = (layers / shards, layers % shards);
    Ok((0..shards).map(|i| i * size + i.min(larger)).collect())
}

/// The ranges of shards that begin with the layers `starts`, in order; they cover all `layers`.
pub fn ranges(starts: &[u32], layers: u32) -> Result<Vec<LayerRange>, LayersError> {
    check_counts(layers, starts.len())?;
    for (i, &start) in starts.iter().enumerate() {
        match i.checked_sub(1).and_then(|i| starts.get(i)) {
            None if start != 0 => return Err(LayersError::First { start }),
            Some(&before) if start <= before => return Err(LayersError::Order { start, before }),
            _ if start >= layers => return Err(LayersError::Beyond { start, layers }),
            _ => {}
        }
    }
    let ends = starts.iter().skip(1).copied().chain([layers]);
    Ok(starts.iter().zip(ends).map(|(&start, end)| LayerRange { start, end }).collect())
}

/// What of `0..layers` the ranges, in any order, leave out.
pub fn gaps(ranges: impl IntoIterator<Item = LayerRange>, layers: u32) -> Vec<LayerRange> {
    let mut ranges: Vec<LayerRange> = ranges.into_iter().collect();
    ranges.sort();
    let mut missing = Vec::new();
    let mut covered = 0;
    for range in ranges {
        if range.start > covered {
            missing.push(LayerRange { start: covered, end: range.start });
        }
        covered = covered.max(range.end);
    }
    if covered < layers {
        missing.push(LayerRange { start: covered, end: layers });
    }
    missing
}

fn check_counts(layers: u32, shards: usize) -> Result<(), LayersError> {
    if layers == 0 || layers > MAX_LAYERS {
        return Err(LayersError::LayerCount { layers });
    }
    if shards == 0 || shards > MAX_SHARDS || shards > layers as usize {
        return Err(LayersError::ShardCount { shards, layers });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn gaps_are_what_is_not_covered() {
        let range = |(start, end)| LayerRange { start, end };
        type Ranges = &'static [(u32, u32)];
        let cases: [(Ranges, Ranges); 4] = [
            (&[], &[(0, 8)]),
            (&[(4, 8), (0, 4)], &[]),
            (&[(2, 4), (6, 7)], &[(0, 2), (4, 6), (7, 8)]),
            (&[(0, 5), (1, 2)], &[(5, 8)]),
        ];
        for (held, missing) in cases {
            let held = held.iter().copied().map(range);
            assert_eq!(gaps(held, 8), missing.iter().copied().map(range).collect::<Vec<_>>());
        }
    }

    #[test]
    fn even_starts_put_the_larger_shards_first() {
        for (layers, shards, starts) in [
            (8, 1, vec![0]),
            (8, 3, vec![0, 3, 6]),
            (8, 4, vec![0, 2, 4, 6]),
            (32, 5, vec![0, 7, 14, 20, 26]),
            (3, 3, vec![0, 1, 2]),
        ] {
            assert_eq!(even_starts(layers, shards), Ok(starts), "{layers} layers, {shards} shards");
        }
    }

    #[test]
    fn what_cannot_be_shared_out_is_named() {
        for (starts, layers, message) in [
            (vec![], 8, "0 shards of 8 layers: a shard holds at least one layer (1 to 8 shards)"),
            (vec![0, 1, 2], 2, "3 shards of 2 layers: a shard holds at least one layer (1 to 2 shards)"),
            (vec![0], 0, "0 layers: 1 to 1024 are valid"),
            (vec![0], 4_000_000_000, "4000000000 layers: 1 to 1024 are valid"),
            (vec![1, 4], 8, "the first layer start is 1: it must be 0"),
            (vec![0, 4, 4], 8, "layer start 4 does not lie above the one before it, 4"),
            (vec![0, 9], 8, "layer start 9 is not a layer of the model, which has 8 (0 to 7)"),
        ] {
            assert_eq!(ranges(&starts, layers).unwrap_err().to_string(), message);
        }
    }

    proptest! {
        #[test]
        fn even_ranges_cover_all_layers_once_and_differ_by_one(layers in 1..=MAX_LAYERS, shards in 1..=MAX_SHARDS) {
            let Ok(starts) = even_starts(layers, shards) else {
                prop_assert!(shards > layers as usize);
                return Ok(());
            };
            let ranges = ranges(&starts, layers).unwrap();
            prop_assert_eq!(ranges.len(), shards);
            prop_assert_eq!(ranges.iter().map(|r| r.len()).sum::<u32>(), layers);
            prop_assert!(ranges.windows(2).all(|w| w[0].end == w[1].start && w[0].len() >= w[1].len()));
            prop_assert!(ranges[0].len() - ranges[shards - 1].len() <= 1);
        }
    }
}
