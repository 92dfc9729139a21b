//! What batch invariance costs: all products of a forward, with sums in the order of the kernels' contract and with sums in
//! the fastest order. Attention, which has a fixed order too, is not in it.

use std::time::{Duration, Instant};

use shard_kernels::{Activations, MatmulError, Matrix, Pool, matmul, matmul_free};

use crate::shard::ShardModel;

/// Passes of each kind, by turns; the fastest counts: whatever else runs only adds to the others.
const PASSES: usize = 9;

/// Seconds for all products of some rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Invariance {
    /// Rows that are multiplied together: 1 is a step of one session.
    pub rows: usize,
    /// As the engine does it.
    pub in_order: f64,
    /// With sums in the fastest order.
    pub free: f64,
}

/// Measures with the model's own weights and threads; `None` where there are no kernels to compare with.
pub(super) fn measure(shard: &ShardModel, rows: usize) -> Result<Option<Invariance>, MatmulError> {
    let matrices: Vec<&Matrix<'_>> = shard.matrices().collect();
    let mut work = Work::new(shard, rows);
    let mut best = [Duration::MAX; 2];
    for _ in 0..PASSES {
        for (free, best) in [false, true].into_iter().zip(&mut best) {
            let Some(took) = work.pass(&matrices, free)? else { return Ok(None) };
            *best = took.min(*best);
        }
    }
    let [in_order, free] = best.map(|best| best.as_secs_f64());
    Ok(Some(Invariance { rows, in_order, free }))
}

struct Work<'a> {
    pool: &'a Pool,
    /// As many as the widest matrix takes.
    values: Vec<f32>,
    x: Activations,
    out: Vec<f32>,
    rows: usize,
}

impl<'a> Work<'a> {
    fn new(shard: &'a ShardModel, rows: usize) -> Self {
        let widest = shard.matrices().map(Matrix::cols).max().unwrap_or(0);
        let values = (0..rows * widest).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
        Self { pool: shard.pool(), values, x: Activations::new(), out: Vec::new(), rows }
    }

    fn pass(&mut self, matrices: &[&Matrix<'_>], free: bool) -> Result<Option<Duration>, MatmulError> {
        let Self { pool, values, x, out, rows } = self;
        let begin = Instant::now();
        for matrix in matrices {
            let input = x.reset(*rows, matrix.cols());
            input.copy_from_slice(&values[..input.len()]);
            out.resize(*rows * matrix.rows(), 0.0);
            if !free {
                matmul(pool, &[*matrix], x, out)?;
            } else if !matmul_free(pool, &[*matrix], x, out)? {
                return Ok(None);
            }
        }
        Ok(Some(begin.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::shard::LoadOptions;

    #[test]
    fn both_orders_give_nearly_the_same_products() {
        for file in ["tiny-tales-q8_0.gguf", "tiny-tales-q4_k_m.gguf", "tiny-tales-q4_0.gguf"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(file);
            for weights in [crate::Weights::Map, crate::Weights::Packed] {
                let options = LoadOptions { threads: 1, weights, ..LoadOptions::default() };
                let shard = ShardModel::load(&path, &options, &mut |_, _| {}).unwrap();
                for rows in [1, 5] {
                    let Some(found) = measure(&shard, rows).unwrap() else { return };
                    assert!(found.in_order > 0.0 && found.free > 0.0);
                    for matrix in shard.matrices() {
                        let one = [matrix];
                        let (mut fixed, mut free) = (Work::new(&shard, rows), Work::new(&shard, rows));
                        fixed.pass(&one, false).unwrap();
                        free.pass(&one, true).unwrap();
                        let size = fixed.out.iter().fold(1.0_f32, |most, value| most.max(value.abs()));
                        for (a, b) in fixed.out.iter().zip(&free.out) {
                            assert!(
                                (a - b).abs() <= 1e-5 * size,
                                "{file}, {weights:?}: {a} and {b} of {size}"
                            );
                        }
                    }
                }
            }
        }
    }
}
