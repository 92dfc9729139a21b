//! One transformer layer.
//!
//! ```text
//! x ─┬─▶ norm ─▶ q k v ─▶ rope, cache, attention ─▶ o ─▶ + ─┬─▶ norm ─▶ gate, up ─▶ SwiGLU ─▶ down ─▶ + ─▶ x
//!    └──────────────────────────────────────────────────▶┘ └──────────────────────────────────────────▶┘
//! ```

use shard_kernels::attention::{Sequence, attend};
use shard_kernels::kv::{KvCache, KvShape};
use shard_kernels::{Activations, MatmulError, Pool, matmul, ops};

use crate::batch::Span;
use crate::config::ModelConfig;
use crate::weights::{LoadError, ModelFile, Weight};

/// Below this many values a region of the pool costs more than it saves.
const SMALL: usize = 1 << 14;

/// Weights of one layer.
#[derive(Debug)]
pub(crate) struct Block {
    attn_norm: Vec<f32>,
    q: Weight,
    k: Weight,
    v: Weight,
    o: Weight,
    ffn_norm: Vec<f32>,
    gate: Weight,
    up: Weight,
    down: Weight,
}

/// What all layers have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dims {
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) kv: KvShape,
    pub(crate) inner: usize,
    pub(crate) eps: f32,
}

/// Memory that forwards use again.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// The hidden state, `[rows, width]`.
    pub(crate) x: Vec<f32>,
    /// `[cos, sin, …]` of every row's position.
    pub(crate) turns: Vec<f32>,
    /// Inputs of the next product.
    pub(crate) input: Activations,
    /// Outputs of products that stand side by side: q, k and v, or gate and up.
    wide: Vec<f32>,
    /// Outputs of products that are added to `x`.
    change: Vec<f32>,
}

impl Dims {
    pub(crate) fn new(config: &ModelConfig) -> Self {
        Self {
            width: config.embedding_length as usize,
            heads: config.head_count as usize,
            kv: KvShape { heads: config.head_count_kv as usize, head_size: config.head_dim as usize },
            inner: config.feed_forward_length as usize,
            eps: config.rms_eps,
        }
    }
}

impl Block {
    pub(crate) fn load(file: &ModelFile, layer: usize) -> Result<Self, LoadError> {
        let matrix = |part| file.matrix(&format!("blk.{layer}.{part}.weight"));
        let vector = |part| file.vector(&format!("blk.{layer}.{part}.weight"));
        Ok(Self {
            attn_norm: vector("attn_norm")?,
            q: matrix("attn_q")?,
            k: matrix("attn_k")?,
            v: matrix("attn_v")?,
            o: matrix("attn_output")?,
            ffn_norm: vector("ffn_norm")?,
            gate: matrix("ffn_gate")?,
            up: matrix("ffn_up")?,
            down: matrix("ffn_down")?,
        })
    }

    pub(crate) fn matrices_mut(&mut self) -> [&mut Weight; 7] {
        let Self { attn_norm: _, q, k, v, o, ffn_norm: _, gate, up, down } = self;
        [q, k, v, o, gate, up, down]
    }

    pub(crate) fn matrices(&self) -> [&Weight; 7] {
        let Self { attn_norm: _, q, k, v, o, ffn_norm: _, gate, up, down } = self;
        [q, k, v, o, gate, up, down]
    }

    /// Sends the rows of `scratch.x` through the layer. `caches` are this layer's, one for each of `spans`.
    ///
    /// With `keep`, a flag for each of `spans`, only the last rows of the spans it names go on and stay in `x`: of the
    /// model's last layer, other rows leave nothing but keys and values.
    pub(crate) fn forward(
        &self,
        pool: &Pool,
        dims: &Dims,
        spans: &[Span],
        keep: Option<&[bool]>,
        caches: &mut [&mut KvCache],
        scratch: &mut Scratch,
    ) -> Result<(), MatmulError> {
        self.attention(pool, dims, spans, keep, caches, scratch)?;
        if scratch.x.is_empty() { Ok(()) } else { self.feed_forward(pool, dims, scratch) }
    }

    fn attention(
        &self,
        pool: &Pool,
        dims: &Dims,
        spans: &[Span],
        keep: Option<&[bool]>,
        caches: &mut [&mut KvCache],
        scratch: &mut Scratch,
    ) -> Result<(), MatmulError> {
        let Scratch { x, turns, input, wide, change } = scratch;
        let (rows, head_size) = (x.len() / dims.width, dims.kv.head_size);
        let (q_width, kv_width) = (dims.heads * head_size, dims.kv.width());
        let qkv_width = q_width + 2 * kv_width;

        normalise(pool, x, &self.attn_norm, dims.eps, input);
        wide.resize(rows * qkv_width, 0.0);
        matmul(pool, &[self.q.matrix(), self.k.matrix(), self.v.matrix()], input, wide)?;

        let turn_width = turns.len() / rows;
        for_each_row(pool, wide, qkv_width, |r, row| {
            ops::rope(&mut row[..q_width + kv_width], head_size, &turns[r * turn_width..][..turn_width]);
        });
        let mut fresh = wide.chunks_exact(qkv_width);
        for (span, cache) in spans.iter().zip(caches.iter_mut()) {
            for (position, row) in (span.position..).zip(fresh.by_ref().take(span.rows)) {
                let (key, value) = row[q_width..].split_at(kv_width);
                cache.write(position, key, value);
            }
        }
        let cached = spans.iter().zip(caches.iter().map(|cache| &**cache));
        let sequences: Vec<Sequence<'_>> = match keep {
            None => cached
                .map(|(span, cache)| Sequence { cache, start: span.position, rows: span.rows })
                .collect(),
            Some(keep) => {
                keep_last_rows(x, dims.width, spans, keep);
                keep_last_rows(wide, qkv_width, spans, keep);
                let kept = cached.zip(keep).filter(|(_, keep)| **keep).map(|(cached, _)| cached);
                kept.map(|(span, cache)| Sequence { cache, start: span.position + span.rows - 1, rows: 1 })
                    .collect()
            }
        };
        let rows = x.len() / dims.width;
        if rows == 0 {
            return Ok(());
        }
        attend(pool, dims.heads, &sequences, wide, qkv_width, input.reset(rows, q_width));

        change.resize(rows * dims.width, 0.0);
        matmul(pool, &[self.o.matrix()], input, change)?;
        for_each_row(pool, x, dims.width, |r, row| ops::add(row, &change[r * dims.width..][..dims.width]));
        Ok(())
    }

    fn feed_forward(&self, pool: &Pool, dims: &Dims, scratch: &mut Scratch) -> Result<(), MatmulError> {
        let Scratch { x, input, wide, change, .. } = scratch;
        let rows = x.len() / dims.width;
        normalise(pool, x, &self.ffn_norm, dims.eps, input);
        wide.resize(rows * 2 * dims.inner, 0.0);
        matmul(pool, &[self.gate.matrix(), self.up.matrix()], input, wide)?;
        for_each_row(pool, input.reset(rows, dims.inner), dims.inner, |r, row| {
            let (gate, up) = wide[r * 2 * dims.inner..][..2 * dims.inner].split_at(dims.inner);
            ops::silu_mul(gate, up, row);
        });
        matmul(pool, &[self.down.matrix()], input, change)?;
        for_each_row(pool, x, dims.width, |r, row| ops::add(row, &change[r * dims.width..][..dims.width]));
        Ok(())
    }
}

/// Of `data`, `[rows of all spans, width]`, only the last rows of the spans that `keep` names stay, in order.
fn keep_last_rows(data: &mut Vec<f32>, width: usize, spans: &[Span], keep: &[bool]) {
    let (mut end, mut kept) = (0, 0);
    for (span, keep) in spans.iter().zip(keep) {
        end += span.rows;
        if *keep {
            data.copy_within((end - 1) * width..end * width, kept * width);
            kept += 1;
        }
    }
    data.truncate(kept * width);
}

/// The norm of every row of `x` becomes the next product's input.
pub(crate) fn normalise(pool: &Pool, x: &[f32], weight: &[f32], eps: f32, input: &mut Activations) {
    let width = weight.len();
    for_each_row(pool, input.reset(x.len() / width, width), width, |r, row| {
        ops::rms_norm(&x[r * width..][..width], weight, eps, row);
    });
}

fn for_each_row(pool: &Pool, data: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    if data.len() < SMALL {
        data.chunks_exact_mut(width).enumerate().for_each(|(r, row)| work(r, row));
    } else {
        pool.for_each_row(data, width, work);
    }
}
