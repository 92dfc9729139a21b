//! The contract of all kernels: which operations make an output, in which order.
//!
//! It is what makes a token's logits independent of the batch it was computed in. No operation is fused (no FMA), so that
//! plain Rust is the exact reference (`scalar`). `w` is a weight row, `a` the activation row.
//!
//! **Activations** of quantised weights are cut into groups of 256 (K-quants) or 32 (`Q8_0`, `Q4_0`). With `m = max |a|`:
//! `d_a = m / 127` and `q_a = round_half_even(a · (127 / m))`; a group with `m < 2⁻¹⁰⁰` is all zero with `d_a = 0`; one that
//! holds an infinity or a NaN has `d_a = NaN`, so that the fault shows in every output of its row.
//!
//! **Quantised types.** Within a block everything is an integer, hence exact in any order and any lane:
//! `isum = Σ_s scale_s · Σ q_w·q_a` and `msum = Σ_s min_s · Σ q_a` over its sub-blocks `s` (`Q8_0`, `Q4_0`: one sub-block,
//! scale 1, no minimum). Both fit an i32. Then, from block 0 on, into one f32 that starts at zero:
//!
//! ```text
//! acc = acc + (d · f32(isum) - dmin · f32(msum)) · d_a         (types without minima: without that term)
//! ```
//!
//! **Float types.** 16 partial sums, `p[k mod 16] = p[k mod 16] + w[k]·a[k]` in order of k, each starting at zero; then the
//! upper half is added to the lower: 16 → 8 → 4 → 2 → 1.
//!
//! A sum that starts at +0.0 never becomes -0.0, so kernels may fill up with zeros.

/// A group of activations whose largest magnitude is below this counts as zero: 127 / m must stay finite.
pub const TINY: f32 = f32::from_bits((127 - 100) << 23); // 2^-100

/// One step of the sum over blocks.
#[inline]
pub fn add_block(acc: f32, d: f32, isum: i32, dmin: f32, msum: i32, d_a: f32) -> f32 {
    acc + (d * isum as f32 - dmin * msum as f32) * d_a
}

/// Scale and quantising factor of a group with the largest magnitude `max`, given as the bits of its absolute value
/// (which order as the values do, infinity and NaN above all).
#[inline]
pub fn group_scale(max_abs_bits: u32) -> (f32, f32) {
    let max = f32::from_bits(max_abs_bits);
    if !max.is_finite() {
        (f32::NAN, 0.0)
    } else if max < TINY {
        (0.0, 0.0)
    } else {
        (max / 127.0, 127.0 / max)
    }
}

/// The upper half of a single, widened.
#[inline]
pub fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}
