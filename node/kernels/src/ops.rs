//! Norm, activation, softmax and rotary positions on rows of f32.
//!
//! Each operation is written once, over 16 lanes with a fixed order of sums and without fused multiply-add, and
//! compiled once per instruction set (`lanes.rs`): the bits are the same on all of them.

use crate::lanes::{LANES, Lanes, exp, load, multiversion, sum};

multiversion! {
    /// `out = x / rms(x) * weight`, with `rms(x) = sqrt(mean(x²) + eps)`; all of one length.
    pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) = rms_norm_body;

    /// `x += y`, element by element.
    pub fn add(x: &mut [f32], y: &[f32]) = add_body;

    /// SwiGLU: `out = gate / (1 + exp(-gate)) * up`; all of one length.
    pub fn silu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) = silu_mul_body;

    /// `x = exp(scale * (x - max(x)))`, divided by its sum. An empty row stays empty.
    pub fn softmax(x: &mut [f32], scale: f32) = softmax_body;

    /// Turns the adjacent pairs `(2i, 2i+1)` of every head in `row` by the angles whose `cos, sin` lie in `turns`
    /// (`[cos0, sin0, cos1, sin1, …]`); a head's elements beyond `turns.len()` stay as they are.
    pub fn rope(row: &mut [f32], head_size: usize, turns: &[f32]) = rope_body;
}

#[inline(always)]
fn rms_norm_body(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    assert!(x.len() == weight.len() && x.len() == out.len(), "rms_norm of rows of unequal length");
    let (chunks, tail) = x.as_chunks::<LANES>();
    let mut squares = [0.0; LANES];
    for chunk in chunks.iter().chain([&load(tail)]) {
        for lane in 0..LANES {
            squares[lane] += chunk[lane] * chunk[lane];
        }
    }
    let scale = 1.0 / (sum(squares) / x.len() as f32 + eps).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * scale * weight;
    }
}

#[inline(always)]
fn add_body(x: &mut [f32], y: &[f32]) {
    assert!(x.len() == y.len(), "add of rows of unequal length");
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

#[inline(always)]
fn silu_mul_body(gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(gate.len() == up.len() && gate.len() == out.len(), "silu_mul of rows of unequal length");
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        *out = gate / (1.0 + exp(-gate)) * up;
    }
}

#[inline(always)]
pub(crate) fn softmax_body(x: &mut [f32], scale: f32) {
    let mut max = [f32::NEG_INFINITY; LANES];
    let mut keep_max = |values: &[f32]| {
        for (max, &value) in max.iter_mut().zip(values) {
            *max = if value > *max { value } else { *max };
        }
    };
    let (chunks, tail) = x.as_chunks::<LANES>();
    chunks.iter().for_each(|chunk| keep_max(chunk));
    keep_max(tail);
    let max = max.into_iter().fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a });

    let mut total: Lanes = [0.0; LANES];
    let (chunks, tail) = x.as_chunks_mut::<LANES>();
    let mut weigh = |values: &mut [f32]| {
        for (total, value) in total.iter_mut().zip(values) {
            *value = exp((*value - max) * scale);
            *total += *value;
        }
    };
    chunks.iter_mut().for_each(|chunk| weigh(chunk));
    weigh(tail);
    let share = 1.0 / sum(total);
    x.iter_mut().for_each(|value| *value *= share);
}

#[inline(always)]
fn rope_body(row: &mut [f32], head_size: usize, turns: &[f32]) {
    assert!(turns.len() <= head_size && row.len().is_multiple_of(head_size), "rope beyond the head");
    for head in row.chunks_exact_mut(head_size) {
        for (pair, turn) in head.as_chunks_mut::<2>().0.iter_mut().zip(turns.as_chunks::<2>().0) {
            let ([a, b], [cos, sin]) = (*pair, *turn);
            *pair = [a * cos - b * sin, a * sin + b * cos];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::{self, Isa};
    use proptest::prelude::*;

    fn row(len: usize, seed: u64) -> Vec<f32> {
        let mut state = seed | 1;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..len).map(|_| next() * 12.0).collect()
    }

    fn bits(row: &[f32]) -> Vec<u32> {
        row.iter().map(|v| v.to_bits()).collect()
    }

    proptest! {
        #[test]
        fn every_tier_gives_the_same_bits(len in 0usize..300, seed: u64, heads in 1usize..5) {
            let (x, y) = (row(len, seed), row(len, seed ^ 0xabcd));
            let turns: Vec<f32> = row(len / 2 * 2, seed ^ 7);
            let run = || {
                let mut norm = vec![0.0; len];
                rms_norm(&x, &y, 1e-5, &mut norm);
                let (mut sum, mut gate, mut weights) = (x.clone(), x.clone(), x.clone());
                add(&mut sum, &y);
                silu_mul(&x, &y, &mut gate);
                softmax(&mut weights, 0.125);
                let mut turned = x.repeat(heads);
                if len > 0 { rope(&mut turned, len, &turns); }
                [norm, sum, gate, weights, turned].map(|r| bits(&r))
            };
            let expect = isa::with(Isa::Baseline, run);
            for tier in Isa::available() {
                prop_assert_eq!(&isa::with(tier, run), &expect, "{:?}", tier);
            }
        }

        #[test]
        fn operations_agree_with_double_precision(len in 1usize..300, seed: u64) {
            let (x, y) = (row(len, seed), row(len, seed ^ 0x55));
            let wide = |v: &[f32]| -> Vec<f64> { v.iter().map(|&v| f64::from(v)).collect() };
            let (xd, yd) = (wide(&x), wide(&y));
            let near = |got: &[f32], expect: &[f64]| got.iter().zip(expect).all(|(g, e)| {
                (f64::from(*g) - e).abs() <= 1e-6 * e.abs() + 1e-7
            });

            let rms = (xd.iter().map(|v| v * v).sum::<f64>() / len as f64 + 1e-5).sqrt();
            let mut norm = vec![0.0; len];
            rms_norm(&x, &y, 1e-5, &mut norm);
            prop_assert!(near(&norm, &xd.iter().zip(&yd).map(|(x, y)| x / rms * y).collect::<Vec<_>>()));

            let mut gate = vec![0.0; len];
            silu_mul(&x, &y, &mut gate);
            prop_assert!(near(&gate, &xd.iter().zip(&yd).map(|(x, y)| x / (1.0 + (-x).exp()) * y).collect::<Vec<_>>()));

            let max = xd.iter().copied().fold(f64::MIN, f64::max);
            let weights: Vec<f64> = xd.iter().map(|x| (0.25 * (x - max)).exp()).collect();
            let total: f64 = weights.iter().sum();
            let mut soft = x.clone();
            softmax(&mut soft, 0.25);
            prop_assert!(near(&soft, &weights.iter().map(|w| w / total).collect::<Vec<_>>()));
        }
    }

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        for i in -87_000..88_000 {
            let x = i as f32 * 1e-3;
            let exact = f64::from(x).exp();
            let ulp = f64::from(f32::EPSILON) * exact;
            assert!((f64::from(exp(x)) - exact).abs() <= 2.0 * ulp, "exp({x}) = {}, exact {exact}", exp(x));
        }
        assert!(exp(-1e9) < 1.3e-38 && exp(f32::NEG_INFINITY) < 1.3e-38);
        assert!(exp(1e9).is_finite());
    }

    #[test]
    fn rope_turns_adjacent_pairs_and_keeps_the_rest_of_a_head() {
        let mut row = [1.0, 0.0, 0.0, 1.0, 5.0, 2.0, 0.0, 3.0, 4.0, 6.0];
        rope(&mut row, 5, &[0.0, 1.0, -1.0, 0.0]);
        assert_eq!(row, [0.0, 1.0, 0.0, -1.0, 5.0, 0.0, 2.0, -3.0, -4.0, 6.0]);
    }
}
