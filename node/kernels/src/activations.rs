//! The input rows of a product, in f32 and in the 8-bit forms that quantised weights meet.

use crate::buffer::Buffer;
use crate::numerics::group_scale;
use crate::pool::Pool;
use crate::weight_type::Family;

/// Rows of activations, reused from one product to the next. A form is made at the first product that needs it and kept until
/// [`reset`](Self::reset): q, k and v share one, also where their types differ.
#[derive(Debug, Default)]
pub struct Activations {
    rows: usize,
    cols: usize,
    values: Buffer<f32>,
    per32: Quantized,
    per256: Quantized,
}

/// 8-bit rows, group by group: within a group (a block's width) first row 0, then row 1, …, so that what meets one block of
/// weights lies together.
#[derive(Debug, Default)]
pub(crate) struct Quantized {
    ready: bool,
    /// `[group][row][group length]`, within ±127.
    pub q: Buffer<i8>,
    /// `[group][row]`.
    pub d: Buffer<f32>,
}

impl Activations {
    /// No rows yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the shape `[rows][cols]` and hands out the values to fill in; what they held before is undefined.
    pub fn reset(&mut self, rows: usize, cols: usize) -> &mut [f32] {
        (self.rows, self.cols) = (rows, cols);
        (self.per32.ready, self.per256.ready) = (false, false);
        self.values.resize(rows * cols);
        &mut self.values
    }

    /// Rows of the current input.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values of each row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The values, `[rows][cols]`.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Makes the form that a family of weights meets, unless it is there. `cols` is a multiple of the family's group.
    pub(crate) fn prepare(&mut self, pool: &Pool, family: Family) {
        let (form, len) = match family {
            Family::Float => return,
            Family::Per32 => (&mut self.per32, 32),
            Family::Per256 => (&mut self.per256, 256),
        };
        if !form.ready {
            form.quantize(pool, &self.values, self.rows, self.cols, len);
            form.ready = true;
        }
    }

    pub(crate) fn per32(&self) -> &Quantized {
        &self.per32
    }

    pub(crate) fn per256(&self) -> &Quantized {
        &self.per256
    }
}

impl Quantized {
    fn quantize(&mut self, _pool: &Pool, values: &[f32], rows: usize, cols: usize, len: usize) {
        self.q.resize(rows * cols);
        self.d.resize(rows * cols / len);
        for (r, row) in values.chunks_exact(cols.max(1)).enumerate() {
            for (g, group) in row.chunks_exact(len).enumerate() {
                let at = g * rows + r;
                self.d[at] = quantize_group(group, &mut self.q[at * len..(at + 1) * len]);
            }
        }
    }
}

/// Quantises one group and returns its scale, see [`crate::numerics`].
fn quantize_group(values: &[f32], q: &mut [i8]) -> f32 {
    let max = values.iter().map(|v| v.to_bits() & 0x7fff_ffff).max().unwrap_or(0);
    let (d, factor) = group_scale(max);
    for (q, value) in q.iter_mut().zip(values) {
        *q = (value * factor).round_ties_even() as i8;
    }
    d
}
