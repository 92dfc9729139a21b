//! The input rows of a product, in f32 and in the 8-bit forms that quantised weights meet.

use crate::buffer::Buffer;
use crate::lanes::multiversion;
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

/// Rows that pass through the panel kernels together.
pub(crate) const BATCH: usize = 4;

/// 8-bit rows in batches of four (the last may be smaller). What one block of weights meets lies together: within a batch the
/// order is `[block][row][…]`.
#[derive(Debug, Default)]
pub(crate) struct Quantized {
    ready: bool,
    rows: usize,
    cols: usize,
    block: usize,
    q: Buffer<i8>,
    d: Buffer<f32>,
    sums8: Buffer<i32>,
    sums32: Buffer<i16>,
    sums16: Buffer<i16>,
}

/// One batch of a [`Quantized`] form: `rows` rows of `blocks` blocks, every array `[block][row][…]`.
#[derive(Clone, Copy)]
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only vector kernels use the sums"))]
pub(crate) struct Batch<'a> {
    pub rows: usize,
    pub blocks: usize,
    /// The values, `[block length]`, within ±127.
    pub q: &'a [i8],
    /// The scale of a block.
    pub d: &'a [f32],
    /// Blocks of 32: -8 times the sum of the values, which undoes the offset of `Q4_0` (and of `Q8_0` made unsigned).
    pub sums8: &'a [i32],
    /// Blocks of 256: the sums of the 8 runs of 32 values, in [`PAIRS`] order.
    pub sums32: &'a [i16],
    /// Blocks of 256: the sums of the 16 runs of 16 values, in [`PAIRS`] order.
    pub sums16: &'a [i16],
}

/// The order of four sums: those that meet the even bytes of a word of scales, then those that meet the odd ones, so that two masks
/// spread the word into pairs of 16 bits.
const PAIRS: [usize; 4] = [0, 2, 1, 3];

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

    /// Makes the form that a family of weights meets, unless it is there. `cols` is a multiple of the family's block.
    pub(crate) fn prepare(&mut self, pool: &Pool, family: Family) {
        let (form, block) = match family {
            Family::Float => return,
            Family::Per32 => (&mut self.per32, 32),
            Family::Per256 => (&mut self.per256, 256),
        };
        if !form.ready {
            form.reset(self.rows, self.cols, block);
            form.quantize(pool, &self.values);
            form.ready = true;
        }
    }

    /// The form that a family of weights meets; [`Self::prepare`] made it.
    pub(crate) fn form(&self, family: Family) -> &Quantized {
        if family == Family::Per32 { &self.per32 } else { &self.per256 }
    }
}

impl Quantized {
    pub(crate) fn batches(&self) -> usize {
        self.rows.div_ceil(BATCH)
    }

    pub(crate) fn batch(&self, i: usize) -> Batch<'_> {
        let rows = (self.rows - i * BATCH).min(BATCH);
        let blocks = self.cols / self.block;
        let (at, len) = (i * BATCH * blocks, rows * blocks);
        let (per32, per256) = if self.block == 32 { (1, 0) } else { (0, 1) };
        let range = |width: usize| at * width..(at + len) * width;
        Batch {
            rows,
            blocks,
            q: &self.q[range(self.block)],
            d: &self.d[range(1)],
            sums8: &self.sums8[range(per32)],
            sums32: &self.sums32[range(8 * per256)],
            sums16: &self.sums16[range(16 * per256)],
        }
    }

    fn reset(&mut self, rows: usize, cols: usize, block: usize) {
        (self.rows, self.cols, self.block) = (rows, cols, block);
        self.q.resize(rows * cols);
        self.d.resize(rows * cols / block);
        if block == 32 {
            self.sums8.resize(rows * cols / 32);
        } else {
            self.sums32.resize(rows * cols / 32);
            self.sums16.resize(rows * cols / 16);
        }
    }

    fn quantize(&mut self, pool: &Pool, values: &[f32]) {
        /// Values below which waking another thread costs more than it saves.
        const ALONE: usize = 1 << 14;
        let (rows, cols, block) = (self.rows, self.cols, self.block);
        let places = Places {
            q: self.q.as_mut_ptr(),
            d: self.d.as_mut_ptr(),
            sums8: self.sums8.as_mut_ptr(),
            sums32: self.sums32.as_mut_ptr().cast(),
            sums16: self.sums16.as_mut_ptr().cast(),
        };
        let one_row = |r: usize| {
            let batch = r / BATCH;
            let first = batch * BATCH * (cols / block) + r % BATCH;
            let step = (rows - batch * BATCH).min(BATCH);
            let values = &values[r * cols..(r + 1) * cols];
            // `reset` made room for all rows; other rows have other places, and `self` is borrowed until all are done.
            if block == 32 {
                quantize_by_32(values, &places, first, step);
            } else {
                quantize_by_256(values, &places, first, step);
            }
        };
        if rows * cols < ALONE {
            (0..rows).for_each(one_row);
        } else {
            pool.run(rows, one_row);
        }
    }
}

/// Where the arrays of a [`Quantized`] form begin.
struct Places {
    q: *mut i8,
    d: *mut f32,
    sums8: *mut i32,
    sums32: *mut [i16; 8],
    sums16: *mut [i16; 16],
}

// SAFETY: rows are given out once, and each has places of its own.
unsafe impl Sync for Places {}

multiversion! {
    /// Quantises a row in blocks of 32; block `b` goes to place `first + b · step`, which exists and is this row's alone.
    fn quantize_by_32(values: &[f32], places: &Places, first: usize, step: usize) = by_32;

    /// The same in blocks of 256.
    fn quantize_by_256(values: &[f32], places: &Places, first: usize, step: usize) = by_256;
}

#[inline(always)]
fn by_32(values: &[f32], places: &Places, first: usize, step: usize) {
    for (b, values) in values.as_chunks::<32>().0.iter().enumerate() {
        let at = first + b * step;
        // SAFETY: by the caller's word.
        unsafe {
            let q = &mut *places.q.add(at * 32).cast::<[i8; 32]>();
            *places.d.add(at) = quantize_block(values, q);
            *places.sums8.add(at) = -8 * q.iter().map(|&q| i32::from(q)).sum::<i32>();
        }
    }
}

#[inline(always)]
fn by_256(values: &[f32], places: &Places, first: usize, step: usize) {
    for (b, values) in values.as_chunks::<256>().0.iter().enumerate() {
        let at = first + b * step;
        // SAFETY: by the caller's word.
        unsafe {
            let q = &mut *places.q.add(at * 256).cast::<[i8; 256]>();
            *places.d.add(at) = quantize_block(values, q);
            let runs: [i16; 16] =
                std::array::from_fn(|s| q[16 * s..16 * s + 16].iter().map(|&q| i16::from(q)).sum());
            let order = |i: usize| i / 4 * 4 + PAIRS[i % 4];
            *places.sums16.add(at) = std::array::from_fn(|i| runs[order(i)]);
            *places.sums32.add(at) = std::array::from_fn(|i| runs[2 * order(i)] + runs[2 * order(i) + 1]);
        }
    }
}

/// Quantises one block and returns its scale, see [`crate::numerics`].
#[inline(always)]
fn quantize_block<const N: usize>(values: &[f32; N], q: &mut [i8; N]) -> f32 {
    // 1.5 · 2^23: adding it rounds half to even, and the low byte of the sum is the integer.
    const ROUND: f32 = 12_582_912.0;
    let size = |value: f32| value.to_bits() & 0x7fff_ffff;
    let (firsts, lasts) = values.split_at(N / 2);
    let max = firsts.iter().zip(lasts).map(|(&a, &b)| size(a).max(size(b))).fold(0, u32::max);
    let (d, factor) = group_scale(max);
    for (q, value) in q.iter_mut().zip(values) {
        *q = (value * factor + ROUND).to_bits() as i8;
    }
    d
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::{self, Isa};
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = f32> {
        let odd = [0.0, -0.0, 1e-40, 7e-31, 8e-31, 1e38, f32::MAX, f32::INFINITY, f32::NAN];
        prop_oneof![200 => -3f32..3.0, 1 => prop::sample::select(odd.to_vec())]
    }

    proptest! {
        /// On every tier: the words of `numerics`, written down again with the standard library's rounding, block by block in the
        /// order that `Batch` promises.
        #[test]
        fn every_tier_quantizes_by_the_contract(
            rows in 1usize..10, blocks in 1usize..4, values in prop::collection::vec(value(), 9 * 3 * 256),
        ) {
            let cols = blocks * 256;
            let values = &values[..rows * cols];
            for (tier, family) in Isa::available().flat_map(|tier| [(tier, Family::Per32), (tier, Family::Per256)]) {
                let mut x = Activations::new();
                x.reset(rows, cols).copy_from_slice(values);
                isa::with(tier, || x.prepare(&Pool::new(1), family));
                let (form, len) = (x.form(family), if family == Family::Per32 { 32 } else { 256 });
                for (r, row) in values.chunks(cols).enumerate() {
                    let batch = form.batch(r / BATCH);
                    for (b, block) in row.chunks(len).enumerate() {
                        let at = b * batch.rows + r % BATCH;
                        let max = block.iter().fold(0.0, |max: f32, v| if v.is_nan() { f32::INFINITY } else { max.max(v.abs()) });
                        if max.is_infinite() {
                            prop_assert!(batch.d[at].is_nan());
                            continue;
                        }
                        let zero = max < 2f32.powi(-100);
                        let scaled = |v: f32| if zero { 0 } else { (v * (127.0 / max)).round_ties_even() as i8 };
                        let q: Vec<i8> = block.iter().map(|&v| scaled(v)).collect();
                        prop_assert_eq!(batch.d[at], if zero { 0.0 } else { max / 127.0 });
                        prop_assert_eq!(&batch.q[at * len..(at + 1) * len], &q, "{:?} row {} block {}", tier, r, b);
                        let sum = |run: usize, i: usize| q[run * i..run * (i + 1)].iter().map(|&q| i32::from(q)).sum::<i32>();
                        if len == 32 {
                            prop_assert_eq!(batch.sums8[at], -8 * sum(32, 0));
                            continue;
                        }
                        for i in 0..16 {
                            prop_assert_eq!(i32::from(batch.sums16[at * 16 + i]), sum(16, i / 4 * 4 + PAIRS[i % 4]));
                        }
                        for i in 0..8 {
                            prop_assert_eq!(i32::from(batch.sums32[at * 8 + i]), sum(32, i / 4 * 4 + PAIRS[i % 4]));
                        }
                    }
                }
            }
        }
    }
}
