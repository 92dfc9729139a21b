//! Layers that nobody serves, and why.

use super::cause::grouped;
use super::fleet::ShardView;
use crate::crd::LayerRange;
use crate::named;

/// `layers 12-16: shard 3 is downloading, 40 %, from 2 peers`, for each cause.
pub(super) fn gaps(missing: &[LayerRange], shards: &[ShardView<'_>]) -> Vec<String> {
    let lacks = |shard: &ShardView<'_>| -> Vec<LayerRange> {
        missing.iter().filter_map(|gap| overlap(*gap, shard.layers()?)).collect()
    };
    let lacking = shards.iter().map(|shard| (shard, lacks(shard))).filter(|(_, lacks)| !lacks.is_empty());
    let causes = lacking.map(|(shard, lacks)| (shard.id, (shard.waits_for(), lacks)));
    let groups = grouped(causes, |(cause, lacks), (other, others)| {
        let same = cause.join(other);
        if same {
            lacks.extend(others);
        }
        same
    });
    let told = groups.into_iter().map(|(ids, (cause, lacks))| {
        format!("layers {}: {}", named::layers(&merged(lacks)), cause.words(&ids))
    });
    let nobodys = |gap: &&LayerRange| {
        shards.iter().all(|shard| shard.layers().is_none_or(|own| overlap(**gap, own).is_none()))
    };
    let unknown: Vec<LayerRange> = missing.iter().filter(nobodys).copied().collect();
    let unknown =
        (!unknown.is_empty()).then(|| format!("layers {}: no shard has them", named::layers(&unknown)));
    told.chain(unknown).collect()
}

fn overlap(one: LayerRange, other: LayerRange) -> Option<LayerRange> {
    let both = LayerRange { start: one.start.max(other.start), end: one.end.min(other.end) };
    (both.start < both.end).then_some(both)
}

/// Neighbours as one; in ascending order, as shards are.
fn merged(ranges: Vec<LayerRange>) -> Vec<LayerRange> {
    let mut all: Vec<LayerRange> = Vec::new();
    for range in ranges {
        match all.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => all.push(range),
        }
    }
    all
}
