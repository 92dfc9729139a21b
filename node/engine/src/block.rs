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

/// Rows that go through the layers together.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) dims: &'a Dims,
    /// Whose rows they are, in order.
    pub(crate) spans: &'a [Span],
    /// Of the model's last layer, a flag for each span: only the last rows of those it names go on, since of the other
    /// rows nobody wants more than keys and values.
    pub(crate) keep: Option<&'a [bool]>,
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

    fn q_width(&self) -> usize {
        self.heads * self.kv.head_size
    }

    fn qkv_width(&self) -> usize {
        self.q_width() + 2 * self.kv.width()
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

    /// Sends the rows of `scratch.x` through the layer. `caches` are this layer's, one for each span of the pass.
    pub(crate) fn forward(
        &self,
        pass: &Pass<'_>,
        caches: &mut [&mut KvCache],
        scratch: &mut Scratch,
    ) -> Result<(), MatmulError> {
        self.project(pass, scratch)?;
        pass.write_caches(caches, scratch);
        pass.drop_rows(scratch);
        if scratch.x.is_empty() {
            return Ok(());
        }
        self.attend(pass, caches, scratch)?;
        self.feed_forward(pass, scratch)
    }

    /// Norm, then queries, keys and values side by side in `wide`, turned to their positions.
    fn project(&self, pass: &Pass<'_>, scratch: &mut Scratch) -> Result<(), MatmulError> {
        let Pass { pool, dims, .. } = pass;
        let Scratch { x, turns, input, wide, .. } = scratch;
        let rows = x.len() / dims.width;
        normalise(pool, x, &self.attn_norm, dims.eps, input);
        wide.resize(rows * dims.qkv_width(), 0.0);
        matmul(pool, &[self.q.matrix(), self.k.matrix(), self.v.matrix()], input, wide)?;
        let turn_width = turns.len() / rows;
        for_each_row(pool, wide, dims.qkv_width(), |r, row| {
            let turns = &turns[r * turn_width..][..turn_width];
            ops::rope(&mut row[..dims.q_width() + dims.kv.width()], dims.kv.head_size, turns);
        });
        Ok(())
    }

    fn attend(
        &self,
        pass: &Pass<'_>,
        caches: &[&mut KvCache],
        scratch: &mut Scratch,
    ) -> Result<(), MatmulError> {
        let Pass { pool, dims, .. } = pass;
        let Scratch { x, input, wide, change, .. } = scratch;
        let rows = x.len() / dims.width;
        let attended = input.reset(rows, dims.q_width());
        attend(pool, dims.heads, &pass.sequences(caches), wide, dims.qkv_width(), attended);
        change.resize(rows * dims.width, 0.0);
        matmul(pool, &[self.o.matrix()], input, change)?;
        add(pool, x, change, dims.width);
        Ok(())
    }

    fn feed_forward(&self, pass: &Pass<'_>, scratch: &mut Scratch) -> Result<(), MatmulError> {
        let Pass { pool, dims, .. } = pass;
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
        add(pool, x, change, dims.width);
        Ok(())
    }
}

impl Pass<'_> {
    fn write_caches(&self, caches: &mut [&mut KvCache], scratch: &Scratch) {
        let mut rows = scratch.wide.chunks_exact(self.dims.qkv_width());
        for (span, cache) in self.spans.iter().zip(caches) {
            for (position, row) in (span.position..).zip(rows.by_ref().take(span.rows)) {
                let (key, value) = row[self.dims.q_width()..].split_at(self.dims.kv.width());
                cache.write(position, key, value);
            }
        }
    }

    /// Leaves the rows in `x` and `wide` that go on.
    fn drop_rows(&self, scratch: &mut Scratch) {
        if let Some(keep) = self.keep {
            keep_last_rows(&mut scratch.x, self.dims.width, self.spans, keep);
            keep_last_rows(&mut scratch.wide, self.dims.qkv_width(), self.spans, keep);
        }
    }

    /// What the rows that go on attend to.
    fn sequences<'a>(&self, caches: &'a [&mut KvCache]) -> Vec<Sequence<'a>> {
        let cached = self.spans.iter().zip(caches.iter().map(|cache| &**cache));
        match self.keep {
            None => cached
                .map(|(span, cache)| Sequence { cache, start: span.position, rows: span.rows })
                .collect(),
            Some(keep) => cached
                .zip(keep)
                .filter(|(_, keep)| **keep)
                .map(|((span, cache), _)| Sequence { cache, start: span.position + span.rows - 1, rows: 1 })
                .collect(),
        }
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

fn add(pool: &Pool, x: &mut [f32], change: &[f32], width: usize) {
    for_each_row(pool, x, width, |r, row| ops::add(row, &change[r * width..][..width]));
}

fn for_each_row(pool: &Pool, data: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    if data.len() < SMALL {
        data.chunks_exact_mut(width).enumerate().for_each(|(r, row)| work(r, row));
    } else {
        pool.for_each_row(data, width, work);
    }
}
