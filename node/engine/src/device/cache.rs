//! Keys and values of one session and layer on the device, and attention to them.

use candle_core::{D, DType, Device, Result, Tensor};
use shard_kernels::kv::{KvDtype, KvShape};

/// Reserved for every position that the session may have.
pub(crate) struct Cache {
    /// `[kv heads, positions, head size]`.
    keys: Tensor,
    values: Tensor,
}

impl Cache {
    pub(super) fn new(shape: KvShape, dtype: KvDtype, positions: usize, device: &Device) -> Result<Self> {
        let dtype = match dtype {
            KvDtype::F32 => DType::F32,
            KvDtype::F16 => DType::F16,
        };
        let zeros = || Tensor::zeros((shape.heads, positions, shape.head_size), dtype, device);
        Ok(Self { keys: zeros()?, values: zeros()? })
    }

    pub(crate) fn device(&self) -> &Device {
        self.keys.device()
    }

    /// Writes keys and values, `[kv heads, rows, head size]`, of the positions from `position` on.
    pub(super) fn write(&self, position: usize, keys: &Tensor, values: &Tensor) -> Result<()> {
        self.keys.slice_set(&keys.to_dtype(self.keys.dtype())?, 1, position)?;
        self.values.slice_set(&values.to_dtype(self.values.dtype())?, 1, position)
    }

    /// What `queries`, `[heads, rows, head size]`, make of the first `len` positions: `[rows, heads · head size]`.
    /// `mask` is `[rows, len]`, added to the scores.
    pub(super) fn attend(&self, queries: &Tensor, len: usize, mask: Option<&Tensor>) -> Result<Tensor> {
        let (heads, rows, size) = queries.dims3()?;
        let kv_heads = self.keys.dim(0)?;
        let group = heads / kv_heads;
        let held = |cache: &Tensor| cache.narrow(1, 0, len)?.to_dtype(DType::F32)?.contiguous();
        let (keys, values) = (held(&self.keys)?, held(&self.values)?);
        // The query heads of a group lie side by side: one product for each key head, no copies of keys.
        let queries = (queries.reshape((kv_heads, group * rows, size))? / (size as f64).sqrt())?;
        let scores = queries.matmul(&keys.t()?)?.reshape((heads, rows, len))?;
        let scores = match mask {
            Some(mask) => scores.broadcast_add(mask)?,
            None => scores,
        };
        let weights = softmax(&scores)?.reshape((kv_heads, group * rows, len))?;
        let mixed = weights.matmul(&values)?.reshape((heads, rows, size))?;
        mixed.transpose(0, 1)?.contiguous()?.reshape((rows, heads * size))
    }
}

/// For `rows` positions from `position` on: each sees itself and what is before it. A single row needs none.
pub(super) fn causal_mask(position: usize, rows: usize, device: &Device) -> Result<Option<Tensor>> {
    if rows == 1 {
        return Ok(None);
    }
    let len = position + rows;
    let seen =
        |row: usize| (0..len).map(move |key| if key <= position + row { 0.0 } else { f32::NEG_INFINITY });
    let mask: Vec<f32> = (0..rows).flat_map(seen).collect();
    Tensor::from_vec(mask, (rows, len), device).map(Some)
}

fn softmax(scores: &Tensor) -> Result<Tensor> {
    let largest = scores.max_keepdim(D::Minus1)?;
    let weights = scores.broadcast_sub(&largest)?.exp()?;
    weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("shape", self.keys.shape()).finish_non_exhaustive()
    }
}
