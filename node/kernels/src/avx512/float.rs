//! `F16`, `BF16` and `F32`: a vector holds the 16 partial sums of one output.

use core::arch::x86_64::*;

use super::prefetch;
use super::sums::Sums;
use crate::lanes::{LANES, sum};
use crate::simd::{FloatOutput, prefetch_of};
use crate::weight_type::WeightType;

/// # Safety
/// As [`Kernels::float`](crate::simd::Kernels::float).
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
pub(super) unsafe fn rows<S: Sums>(ty: WeightType, rows: &[&[u8]], x: &[&[f32]], out: &mut FloatOutput) {
    // SAFETY: by this function's contract.
    unsafe {
        match ty {
            WeightType::F16 => by_rows::<S, F16>(rows, x, out),
            WeightType::Bf16 => by_rows::<S, Bf16>(rows, x, out),
            _ => by_rows::<S, F32>(rows, x, out),
        }
    }
}

/// # Safety
/// As [`rows`], for the type `L`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
unsafe fn by_rows<S: Sums, L: Load>(rows: &[&[u8]], x: &[&[f32]], out: &mut FloatOutput) {
    macro_rules! by_x {
        ($count:literal, $rows:expr) => {
            match *x {
                [a] => dot::<S, L, $count, 1>($rows, [a], out),
                [a, b] => dot::<S, L, $count, 2>($rows, [a, b], out),
                [a, b, c] => dot::<S, L, $count, 3>($rows, [a, b, c], out),
                [a, b, c, d] => dot::<S, L, $count, 4>($rows, [a, b, c, d], out),
                _ => {}
            }
        };
    }
    // SAFETY: by this function's contract.
    unsafe {
        match *rows {
            [a] => by_x!(1, [a]),
            [a, b] => by_x!(2, [a, b]),
            [a, b, c, d] => by_x!(4, [a, b, c, d]),
            _ => {}
        }
    }
}

/// # Safety
/// As [`rows`], for the type `L`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
unsafe fn dot<S: Sums, L: Load, const R: usize, const M: usize>(
    rows: [&[u8]; R],
    x: [&[f32]; M],
    out: &mut FloatOutput,
) {
    let cols = x[0].len();
    let ahead = prefetch_of(R, rows[0].len());
    assert!(x.iter().all(|x| x.len() == cols) && rows.iter().all(|row| row.len() == cols * L::BYTES));
    let mut acc = [[_mm512_setzero_ps(); M]; R];
    let mut step = |k: usize, mask: u16| {
        let mut w = [_mm512_setzero_ps(); R];
        for r in 0..R {
            // SAFETY: the mask ends at the last value of the rows.
            w[r] = unsafe { L::load(rows[r].as_ptr().wrapping_add(k * L::BYTES), mask) };
        }
        for m in 0..M {
            // SAFETY: as above.
            let a = unsafe { _mm512_maskz_loadu_ps(mask, x[m].as_ptr().wrapping_add(k)) };
            for r in 0..R {
                // SAFETY: this function has AVX-512.
                acc[r][m] = unsafe { S::add(acc[r][m], w[r], a) };
            }
        }
    };
    let whole = cols / LANES * LANES;
    for k in (0..whole).step_by(LANES) {
        if k * L::BYTES % 64 == 0 {
            rows.into_iter().for_each(|row| prefetch(row.as_ptr().wrapping_add(k * L::BYTES), ahead, 1));
        }
        step(k, 0xffff);
    }
    if whole < cols {
        step(whole, (1 << (cols - whole)) - 1);
    }
    for (acc, out) in acc.iter().zip(out) {
        for (acc, out) in acc.iter().zip(out) {
            let mut lanes = [0.0; LANES];
            // SAFETY: 16 places.
            unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), *acc) };
            *out = sum(lanes);
        }
    }
}

/// A float type of weights.
trait Load {
    const BYTES: usize;

    /// The values that `mask` names, the others zero.
    ///
    /// # Safety
    /// The processor has AVX-512; the values named are readable.
    unsafe fn load(at: *const u8, mask: u16) -> __m512;
}

struct F32;
struct F16;
struct Bf16;

impl Load for F32 {
    const BYTES: usize = 4;

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
    #[inline]
    unsafe fn load(at: *const u8, mask: u16) -> __m512 {
        // SAFETY: by this function's contract.
        unsafe { _mm512_maskz_loadu_ps(mask, at.cast()) }
    }
}

impl Load for F16 {
    const BYTES: usize = 2;

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
    #[inline]
    unsafe fn load(at: *const u8, mask: u16) -> __m512 {
        // SAFETY: by this function's contract.
        _mm512_cvtph_ps(unsafe { _mm256_maskz_loadu_epi16(mask, at.cast()) })
    }
}

impl Load for Bf16 {
    const BYTES: usize = 2;

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
    #[inline]
    unsafe fn load(at: *const u8, mask: u16) -> __m512 {
        // SAFETY: by this function's contract.
        let halves = unsafe { _mm256_maskz_loadu_epi16(mask, at.cast()) };
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
    }
}
