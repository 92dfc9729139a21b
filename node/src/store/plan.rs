//! Where to cut a model so that all stages take equally long: [`propose`] reads headers, the rest is pure.
//!
//! A stage's time for a token is the time to read its weights once, so its cost is the bytes that every token is
//! multiplied by: those of its layers, and the head's in the last. The embedding costs nothing: one row is looked up.

use std::path::Path;

use serde::Serialize;
use shard_engine::config::ModelConfig;
use shard_engine::gguf::Gguf;
use shard_engine::layout::{Layout, LayoutError, layer_of};
use shard_wire::layers::{LayerRange, LayersError, even_starts, ranges};

use super::model::{Model, ModelError};

/// A proposal.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Layers of the model.
    pub total_layers: u32,
    /// First layer of every shard.
    pub layer_starts: Vec<u32>,
    /// In order.
    pub shards: Vec<PlannedShard>,
}

/// One shard of a proposal.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedShard {
    /// Its index.
    pub shard_id: u32,
    /// Its layers.
    pub layers: LayerRange,
    /// Size of its file.
    pub bytes: u64,
    /// Its cost over the average.
    pub load: f64,
}

/// Why nothing can be proposed.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The model cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// More shards than layers, or none.
    #[error(transparent)]
    Layers(#[from] LayersError),
    /// The file is not a whole model.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// Proposes how to cut the model at `path` into `shards` shards.
pub fn propose(path: &Path, shards: usize) -> Result<Plan, PlanError> {
    let model = Model::open(path)?;
    let costs = Costs::of(&model.parts, &model.config);
    let layer_starts = balanced_starts(&costs, shards)?;
    let ranges = ranges(&layer_starts, model.config.block_count)?;
    let layout = Layout::new(&model.parts, &ranges.iter().map(|r| r.start..r.end).collect::<Vec<_>>())?;
    let average = costs.stage(0, costs.layers.len()) as f64 / shards as f64;
    let shards = ranges.iter().zip(&layout.files).zip(0..).map(|((&layers, file), shard_id)| PlannedShard {
        shard_id,
        layers,
        bytes: file.file_bytes,
        load: costs.stage(layers.start as usize, layers.end as usize) as f64 / average,
    });
    Ok(Plan { total_layers: model.config.block_count, shards: shards.collect(), layer_starts })
}

/// Bytes that a token is multiplied by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Costs {
    /// Of every layer.
    pub layers: Vec<u64>,
    /// Of norm and head, which the last stage has.
    pub head: u64,
}

impl Costs {
    /// Costs of the whole model in `parts`.
    #[must_use]
    pub fn of(parts: &[Gguf], config: &ModelConfig) -> Self {
        let mut costs = Self { layers: vec![0; config.block_count as usize], head: 0 };
        for tensor in parts.iter().flat_map(|part| &part.tensors) {
            let layer = layer_of(&tensor.name).and_then(|layer| costs.layers.get_mut(layer as usize));
            match layer {
                Some(layer) => *layer += tensor.bytes,
                None if Some(tensor.name.as_str()) == config.head_tensor() => costs.head += tensor.bytes,
                None => {}
            }
        }
        costs
    }

    /// Cost of the layers from `start` to `end`, which is not included.
    #[must_use]
    pub fn stage(&self, start: usize, end: usize) -> u64 {
        let layers: u64 = self.layers.get(start..end).unwrap_or_default().iter().sum();
        layers + if end == self.layers.len() { self.head } else { 0 }
    }
}

/// First layers of `shards` stages such that the costliest is as cheap as can be and the others are as equal as
/// can be, the larger ones first.
pub fn balanced_starts(costs: &Costs, shards: usize) -> Result<Vec<u32>, LayersError> {
    // It has the same bounds; where all layers cost the same and the head nothing it is the answer, too.
    even_starts(u32::try_from(costs.layers.len()).unwrap_or(u32::MAX), shards)?;
    let limit = least_limit(costs, shards);
    let layers = costs.layers.len();
    // best[k][end]: the least sum of squares of k + 1 stages over the first `end` layers, none above the limit,
    // and where the last of them begins.
    let mut best: Vec<Vec<Option<(u128, usize)>>> = Vec::with_capacity(shards);
    for k in 0..shards {
        let row = (0..=layers)
            .map(|end| {
                let mut found: Option<(u128, usize)> = None;
                let mut cost = if end == layers { costs.head } else { 0 };
                for start in (k..end).rev() {
                    cost += costs.layers[start];
                    if cost > limit {
                        break;
                    }
                    let before = match k.checked_sub(1) {
                        None => (start == 0).then_some(0),
                        Some(k) => best[k][start].map(|(sum, _)| sum),
                    };
                    let Some(before) = before else { continue };
                    let sum = before + u128::from(cost) * u128::from(cost);
                    // Equal sums: the later start, so that the larger stages come first.
                    if found.is_none_or(|(least, _)| sum < least) {
                        found = Some((sum, start));
                    }
                }
                found
            })
            .collect();
        best.push(row);
    }
    let mut end = layers;
    let mut starts = Vec::with_capacity(shards);
    for row in best.iter().rev() {
        end = row.get(end).copied().flatten().map_or(0, |(_, start)| start);
        starts.push(end as u32);
    }
    starts.reverse();
    Ok(starts)
}

/// The least cost that the costliest of `shards` stages can have.
fn least_limit(costs: &Costs, shards: usize) -> u64 {
    let (mut low, mut high) = (0, costs.stage(0, costs.layers.len()));
    while low < high {
        let middle = low + (high - low) / 2;
        if fits(costs, shards, middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

/// `shards` stages of at least one layer each can stay within `limit`: filled from the back, where the head is.
fn fits(costs: &Costs, shards: usize, limit: u64) -> bool {
    let (mut stages, mut cost) = (1, costs.head);
    let mut is_empty = true;
    for &layer in costs.layers.iter().rev() {
        if cost + layer > limit {
            if is_empty || layer > limit {
                return false;
            }
            stages += 1;
            cost = 0;
        }
        cost += layer;
        is_empty = false;
    }
    // Fewer stages than shards can always be cut further: there are as many layers as shards.
    stages <= shards
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn costs(layers: &[u64], head: u64) -> Costs {
        Costs { layers: layers.to_vec(), head }
    }

    #[test]
    fn the_head_counts_as_the_layers_that_it_costs() {
        for (layers, head, shards, starts) in [
            (vec![10; 8], 0, 3, vec![0, 3, 6]),
            (vec![10; 8], 0, 8, vec![0, 1, 2, 3, 4, 5, 6, 7]),
            (vec![10; 16], 40, 4, vec![0, 5, 10, 15]),
            (vec![10; 16], 40, 2, vec![0, 10]),
            (vec![10; 9], 0, 4, vec![0, 3, 5, 7]),
            // A head as dear as the model: it is alone with one layer.
            (vec![10; 4], 100, 3, vec![0, 2, 3]),
            // Layers of a mixed quantisation.
            (vec![30, 10, 10, 10], 0, 2, vec![0, 1]),
            (vec![10], 5, 1, vec![0]),
        ] {
            let found = balanced_starts(&costs(&layers, head), shards).unwrap();
            assert_eq!(found, starts, "{layers:?} + {head} in {shards}");
        }
    }

    #[test]
    fn more_shards_than_layers_are_refused() {
        let error = balanced_starts(&costs(&[10; 4], 0), 5).unwrap_err();
        assert_eq!(error, LayersError::ShardCount { shards: 5, layers: 4 });
    }

    /// The costliest stage of the best of all ways to cut.
    fn best_by_trying_all(costs: &Costs, start: usize, shards: usize) -> u64 {
        let layers = costs.layers.len();
        if shards == 1 {
            return costs.stage(start, layers);
        }
        (start + 1..=layers + 1 - shards)
            .map(|end| costs.stage(start, end).max(best_by_trying_all(costs, end, shards - 1)))
            .min()
            .unwrap()
    }

    proptest! {
        #[test]
        fn no_other_cut_has_a_cheaper_costliest_stage(
            layers in prop::collection::vec(0u64..20, 1..9), head in 0u64..60, shards in 1usize..9,
        ) {
            prop_assume!(shards <= layers.len());
            let costs = costs(&layers, head);
            let starts = balanced_starts(&costs, shards).unwrap();
            let ranges = shard_wire::layers::ranges(&starts, layers.len() as u32).unwrap();
            let most = ranges.iter().map(|r| costs.stage(r.start as usize, r.end as usize)).max().unwrap();
            prop_assert_eq!(most, best_by_trying_all(&costs, 0, shards));
        }
    }
}
