//! The kernels in plain Rust: the reference that all others equal bit by bit, and what runs where there is no other.

use std::ops::Range;

use crate::activations::{Activations, BATCH};
use crate::blocks::{Block, dequantize_row};
use crate::lanes::{LANES, multiversion, sum};
use crate::matmul::Output;
use crate::matrix::{MAX_BLOCK_BYTES, Matrix};
use crate::numerics::add_block;
use crate::weight_type::Family;

multiversion! {
    /// [`rows`], as the compiler vectorises it for the best instruction set here.
    pub(crate) fn wide_rows(w: &Matrix<'_>, x: &Activations, rows: Range<usize>, out: &Output) = crate::scalar::rows;
}

/// Computes the outputs of some weight rows for all activation rows.
#[inline(always)]
pub(crate) fn rows(w: &Matrix, x: &Activations, rows: Range<usize>, out: &Output) {
    for row in rows {
        match w.weight_type().family() {
            Family::Float => float_row(w, x, row, out),
            Family::Per32 | Family::Per256 => quantized_row(w, x, row, out),
        }
    }
}

#[inline(always)]
fn quantized_row(w: &Matrix, x: &Activations, row: usize, out: &Output) {
    let (ty, form) = (w.weight_type(), x.form(w.weight_type().family()));
    let (len, mut scratch) = (ty.block_len(), [0; MAX_BLOCK_BYTES]);
    for i in 0..form.batches() {
        let batch = form.batch(i);
        let mut acc = [0.0; BATCH];
        for b in 0..batch.blocks {
            let block = Block::read(ty, w.block(row, b, &mut scratch));
            for (r, acc) in acc[..batch.rows].iter_mut().enumerate() {
                let at = b * batch.rows + r;
                let (isum, msum) = dot(&block, &batch.q[at * len..(at + 1) * len]);
                *acc = add_block(*acc, block.d, isum, block.dmin, msum, batch.d[at]);
            }
        }
        for (r, acc) in acc[..batch.rows].iter().enumerate() {
            out.set(i * BATCH + r, row, *acc);
        }
    }
}

/// `isum` and `msum` of [`crate::numerics`].
#[inline(always)]
fn dot(block: &Block, q: &[i8]) -> (i32, i32) {
    let sub = block.sub_len;
    let (mut isum, mut msum) = (0, 0);
    for (s, (w, a)) in block.q.chunks_exact(sub).zip(q.chunks_exact(sub)).enumerate() {
        let products = w.iter().zip(a).map(|(&w, &a)| i32::from(w) * i32::from(a));
        isum += i32::from(block.scales[s]) * products.sum::<i32>();
        msum += i32::from(block.mins[s]) * a.iter().map(|&a| i32::from(a)).sum::<i32>();
    }
    (isum, msum)
}

fn float_row(w: &Matrix, x: &Activations, row: usize, out: &Output) {
    const STEP: usize = 16 * LANES;
    let (k, bytes) = (w.cols(), w.raw_bytes().unwrap_or_default());
    let bytes = &bytes[row * w.row_bytes()..][..w.row_bytes()];
    let mut weights = [0.0; STEP];
    for r in 0..x.rows() {
        let mut p = [0.0; LANES];
        let steps = bytes
            .chunks(STEP * w.weight_type().block_bytes())
            .zip(x.values()[r * k..(r + 1) * k].chunks(STEP));
        for (bytes, a) in steps {
            dequantize_row(w.weight_type(), bytes, &mut weights[..a.len()]);
            for (w, a) in weights.chunks(LANES).zip(a.chunks(LANES)) {
                for ((p, w), a) in p.iter_mut().zip(w).zip(a) {
                    *p += w * a;
                }
            }
        }
        out.set(r, row, sum(p));
    }
}
