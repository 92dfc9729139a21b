//! Shards and layers as people name them.

use crate::crd::LayerRange;

/// Names in a row; more would hide what is said beside them.
const MAX: usize = 8;

/// `shard 3`, `shards 0, 2, 4-9`: of ids in ascending order.
pub(crate) fn shards(ids: &[u32]) -> String {
    let runs = || ids.chunk_by(|one, next| one + 1 == *next);
    let words = runs().take(MAX).map(|run| match run {
        [first, _, .., last] => format!("{first}-{last}"),
        few => few.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    });
    let noun = if ids.len() == 1 { "shard" } else { "shards" };
    format!("{noun} {}", row(words.collect(), runs().skip(MAX).map(<[u32]>::len).sum()))
}

/// `12-16, 20-24`.
pub(crate) fn layers(ranges: &[LayerRange]) -> String {
    let words = ranges.iter().take(MAX).map(ToString::to_string);
    row(words.collect(), ranges.len().saturating_sub(MAX))
}

/// What is longer than so many bytes ends in an ellipsis.
pub(crate) fn shorten(text: &mut String, max: usize) {
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max));
        text.push('…');
    }
}

fn row(mut words: Vec<String>, more: usize) -> String {
    if more > 0 {
        words.push(format!("and {more} more"));
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_named_by_their_ends_and_what_is_too_much_is_counted() {
        let table: [(Vec<u32>, &str); 6] = [
            (vec![3], "shard 3"),
            (vec![0, 1], "shards 0, 1"),
            (vec![0, 1, 2, 3], "shards 0-3"),
            (vec![0, 2, 3, 5, 6, 7, 9], "shards 0, 2, 3, 5-7, 9"),
            ((0..100).collect(), "shards 0-99"),
            ((0..20).map(|n| 2 * n).chain([39]).collect(), "shards 0, 2, 4, 6, 8, 10, 12, 14, and 13 more"),
        ];
        for (ids, expected) in table {
            assert_eq!(shards(&ids), expected);
        }
        let ranges: Vec<LayerRange> = (0..10).map(|n| LayerRange { start: 4 * n, end: 4 * n + 2 }).collect();
        assert_eq!(layers(&ranges[..2]), "0-2, 4-6");
        assert_eq!(layers(&ranges), "0-2, 4-6, 8-10, 12-14, 16-18, 20-22, 24-26, 28-30, and 2 more");
    }
}
