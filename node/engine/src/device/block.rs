//! One transformer layer on the device; the picture of it is in `crate::block`.

use candle_core::quantized::QMatMul;
use candle_core::{D, Device, Error, Module, Result, Tensor};
use shard_kernels::kv::KvShape;

use super::cache::{Cache, causal_mask};
use super::weight::upload;
use super::without_backtrace;
use crate::batch::Span;
use crate::config::ModelConfig;
use crate::weights::{LoadError, ModelFile};

/// Weights of one layer.
pub(super) struct Block {
    attn_norm: Norm,
    q: QMatMul,
    k: QMatMul,
    v: QMatMul,
    o: QMatMul,
    ffn_norm: Norm,
    gate: QMatMul,
    up: QMatMul,
    down: QMatMul,
}

/// What the rows of a pass have in common in every layer.
pub(super) struct Pass<'a> {
    spans: &'a [Span],
    heads: usize,
    kv: KvShape,
    turns: Turns,
    /// Of every span.
    masks: Vec<Option<Tensor>>,
}

/// Cosines and sines of every row's position, `[rows, 1, pairs]`.
struct Turns {
    cos: Tensor,
    sin: Tensor,
}

/// Root mean square norm.
pub(super) struct Norm {
    weight: Tensor,
    eps: f64,
}

impl Norm {
    pub(super) fn load(file: &ModelFile, config: &ModelConfig, name: &str, device: &Device) -> Load<Self> {
        let values = file.vector(name)?;
        let weight = Tensor::new(values, device).map_err(|source| upload_error(name, source))?;
        Ok(Self { weight, eps: f64::from(config.rms_eps) })
    }

    /// Of `x`, `[rows, width]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mean_square = x.sqr()?.mean_keepdim(D::Minus1)?;
        x.broadcast_div(&(mean_square + self.eps)?.sqrt()?)?.broadcast_mul(&self.weight)
    }
}

type Load<T> = std::result::Result<T, LoadError>;

fn upload_error(name: &str, source: Error) -> LoadError {
    LoadError::Upload { name: name.to_owned(), source: without_backtrace(source) }
}

/// Copies a matrix of the file to the device; `done` is told its bytes.
pub(super) fn load_matrix(
    file: &ModelFile,
    name: &str,
    device: &Device,
    done: &mut dyn FnMut(u64),
) -> Load<QMatMul> {
    let weight = file.matrix(name)?;
    let matrix = upload(&weight, device).map_err(|source| upload_error(name, source))?;
    done(weight.bytes());
    Ok(matrix)
}

impl Block {
    pub(super) fn load(
        file: &ModelFile,
        config: &ModelConfig,
        layer: usize,
        device: &Device,
        done: &mut dyn FnMut(u64),
    ) -> Load<Self> {
        let norm = |part| Norm::load(file, config, &format!("blk.{layer}.{part}.weight"), device);
        let mut matrix = |part| load_matrix(file, &format!("blk.{layer}.{part}.weight"), device, done);
        Ok(Self {
            attn_norm: norm("attn_norm")?,
            q: matrix("attn_q")?,
            k: matrix("attn_k")?,
            v: matrix("attn_v")?,
            o: matrix("attn_output")?,
            ffn_norm: norm("ffn_norm")?,
            gate: matrix("ffn_gate")?,
            up: matrix("ffn_up")?,
            down: matrix("ffn_down")?,
        })
    }

    /// Sends `x`, `[rows, width]`, through the layer. `caches` are this layer's, one for each span of the pass.
    pub(super) fn forward(&self, pass: &Pass<'_>, caches: &[&Cache], x: &Tensor) -> Result<Tensor> {
        let normed = self.attn_norm.forward(x)?;
        let attended = self.attend(pass, caches, &normed)?;
        let x = (x + self.o.forward(&attended)?)?;
        let normed = self.ffn_norm.forward(&x)?;
        let inner = (self.gate.forward(&normed)?.silu()? * self.up.forward(&normed)?)?;
        x + self.down.forward(&inner)?
    }

    /// Rows are multiplied together; each session attends alone.
    fn attend(&self, pass: &Pass<'_>, caches: &[&Cache], normed: &Tensor) -> Result<Tensor> {
        let rows = normed.dim(0)?;
        let project = |matrix: &QMatMul, heads: usize| {
            matrix.forward(normed)?.reshape((rows, heads, pass.kv.head_size))
        };
        let queries = pass.turns.apply(&project(&self.q, pass.heads)?)?;
        let keys = pass.turns.apply(&project(&self.k, pass.kv.heads)?)?;
        let values = project(&self.v, pass.kv.heads)?;
        let mut attended = Vec::with_capacity(pass.spans.len());
        let mut first = 0;
        for ((span, cache), mask) in pass.spans.iter().zip(caches).zip(&pass.masks) {
            let of_span = |t: &Tensor| t.narrow(0, first, span.rows)?.transpose(0, 1)?.contiguous();
            cache.write(span.position, &of_span(&keys)?, &of_span(&values)?)?;
            let len = span.position + span.rows;
            attended.push(cache.attend(&of_span(&queries)?, len, mask.as_ref())?);
            first += span.rows;
        }
        Tensor::cat(&attended, 0)
    }
}

impl<'a> Pass<'a> {
    /// `turns` is `[cos, sin, cos, sin, …]` of every row.
    pub(super) fn new(
        config: &ModelConfig,
        spans: &'a [Span],
        turns: &[f32],
        device: &Device,
    ) -> Result<Self> {
        let masks = spans.iter().map(|span| causal_mask(span.position, span.rows, device));
        let rows = spans.iter().map(|span| span.rows).sum();
        Ok(Self {
            spans,
            heads: config.head_count as usize,
            kv: KvShape { heads: config.head_count_kv as usize, head_size: config.head_dim as usize },
            turns: Turns::new(turns, rows, config.rope.dims as usize / 2, device)?,
            masks: masks.collect::<Result<_>>()?,
        })
    }
}

impl Turns {
    fn new(turns: &[f32], rows: usize, pairs: usize, device: &Device) -> Result<Self> {
        let every_second = |from: usize| {
            let values: Vec<f32> = turns.iter().skip(from).step_by(2).copied().collect();
            Tensor::from_vec(values, (rows, 1, pairs), device)
        };
        Ok(Self { cos: every_second(0)?, sin: every_second(1)? })
    }

    /// Turns adjacent pairs of every head of `x`, `[rows, heads, head size]`; what is beyond them stays.
    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let (rows, heads, size) = x.dims3()?;
        let pairs = self.cos.dim(2)?;
        let paired = x.narrow(2, 0, 2 * pairs)?.contiguous()?.reshape((rows, heads, pairs, 2))?;
        let half = |index| paired.narrow(3, index, 1)?.squeeze(3)?.contiguous();
        let (a, b) = (half(0)?, half(1)?);
        let turned = Tensor::stack(
            &[
                (a.broadcast_mul(&self.cos)? - b.broadcast_mul(&self.sin)?)?,
                (a.broadcast_mul(&self.sin)? + b.broadcast_mul(&self.cos)?)?,
            ],
            3,
        )?;
        let turned = turned.reshape((rows, heads, 2 * pairs))?;
        if 2 * pairs == size {
            return Ok(turned);
        }
        Tensor::cat(&[&turned, &x.narrow(2, 2 * pairs, size - 2 * pairs)?], 2)
    }
}
