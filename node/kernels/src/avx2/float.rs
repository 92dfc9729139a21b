//! `F16`, `BF16` and `F32`: two vectors hold the 16 partial sums of one output.

use core::arch::x86_64::*;

use super::prefetch;
use crate::lanes::{LANES, sum};
use crate::simd::{FloatOutput, prefetch_of};
use crate::weight_type::WeightType;

/// # Safety
/// As [`Kernels::float`](crate::simd::Kernels::float).
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn rows(ty: WeightType, rows: &[&[u8]], x: &[&[f32]], out: &mut FloatOutput) {
    // Two by two outputs fill the registers.
    for (rows, out) in rows.chunks(2).zip(out.chunks_mut(2)) {
        for (i, x) in x.chunks(2).enumerate() {
            // SAFETY: by this function's contract.
            let sums = unsafe {
                match ty {
                    WeightType::F16 => by_rows::<F16>(rows, x),
                    WeightType::Bf16 => by_rows::<Bf16>(rows, x),
                    _ => by_rows::<F32>(rows, x),
                }
            };
            for (out, sums) in out.iter_mut().zip(sums) {
                out[2 * i..2 * i + x.len()].copy_from_slice(&sums[..x.len()]);
            }
        }
    }
}

/// # Safety
/// As [`rows`], for the type `L`.
#[target_feature(enable = "avx2,f16c")]
unsafe fn by_rows<L: Load>(rows: &[&[u8]], x: &[&[f32]]) -> [[f32; 2]; 2] {
    // SAFETY: by this function's contract.
    unsafe {
        match (rows, x) {
            ([a, b], [x]) => dot::<L, 2, 1>([a, b], [x]),
            ([a, b], [x, y]) => dot::<L, 2, 2>([a, b], [x, y]),
            ([a], [x]) => dot::<L, 1, 1>([a], [x]),
            ([a], [x, y]) => dot::<L, 1, 2>([a], [x, y]),
            _ => [[0.0; 2]; 2],
        }
    }
}

/// # Safety
/// As [`rows`], for the type `L`.
#[target_feature(enable = "avx2,f16c")]
unsafe fn dot<L: Load, const R: usize, const M: usize>(rows: [&[u8]; R], x: [&[f32]; M]) -> [[f32; 2]; 2] {
    let cols = x[0].len();
    let ahead = prefetch_of(R, rows[0].len());
    assert!(x.iter().all(|x| x.len() == cols) && rows.iter().all(|row| row.len() == cols * L::BYTES));
    let mut acc = [[[_mm256_setzero_ps(); 2]; M]; R];
    let whole = cols / LANES * LANES;
    for k in (0..whole).step_by(LANES) {
        if k * L::BYTES % 64 == 0 {
            rows.into_iter().for_each(|row| prefetch(row.as_ptr().wrapping_add(k * L::BYTES), ahead, 1));
        }
        // SAFETY: 16 values from k on are inside the rows.
        unsafe {
            let rows = rows.map(|row| row.as_ptr().wrapping_add(k * L::BYTES));
            step::<L, R, M>(rows, x.map(|x| x.as_ptr().wrapping_add(k)), &mut acc);
        }
    }
    if whole < cols {
        // The last values in places of their own, filled up with zeros.
        let (mut last_rows, mut last_x) = ([[0u8; 64]; R], [[0.0; LANES]; M]);
        for (last, row) in last_rows.iter_mut().zip(rows) {
            last[..(cols - whole) * L::BYTES].copy_from_slice(&row[whole * L::BYTES..]);
        }
        for (last, x) in last_x.iter_mut().zip(x) {
            last[..cols - whole].copy_from_slice(&x[whole..]);
        }
        // SAFETY: 16 values each.
        unsafe {
            let rows = std::array::from_fn(|r| last_rows[r].as_ptr());
            step::<L, R, M>(rows, std::array::from_fn(|m| last_x[m].as_ptr()), &mut acc);
        }
    }
    let mut sums = [[0.0; 2]; 2];
    for r in 0..R {
        for m in 0..M {
            let mut lanes = [0.0; LANES];
            // SAFETY: 16 places.
            unsafe {
                _mm256_storeu_ps(lanes.as_mut_ptr(), acc[r][m][0]);
                _mm256_storeu_ps(lanes.as_mut_ptr().add(LANES / 2), acc[r][m][1]);
            }
            sums[r][m] = sum(lanes);
        }
    }
    sums
}

/// Adds 16 products to the partial sums of each output.
///
/// # Safety
/// 16 values are readable everywhere.
#[target_feature(enable = "avx2,f16c")]
#[inline]
unsafe fn step<L: Load, const R: usize, const M: usize>(
    rows: [*const u8; R],
    x: [*const f32; M],
    acc: &mut [[[__m256; 2]; M]; R],
) {
    for side in 0..2 {
        let mut w = [_mm256_setzero_ps(); R];
        for r in 0..R {
            // SAFETY: by this function's contract.
            w[r] = unsafe { L::load(rows[r].wrapping_add(8 * side * L::BYTES)) };
        }
        for m in 0..M {
            // SAFETY: by this function's contract.
            let a = unsafe { _mm256_loadu_ps(x[m].wrapping_add(8 * side)) };
            for r in 0..R {
                acc[r][m][side] = _mm256_add_ps(acc[r][m][side], _mm256_mul_ps(w[r], a));
            }
        }
    }
}

/// A float type of weights.
trait Load {
    const BYTES: usize;

    /// Eight values.
    ///
    /// # Safety
    /// The processor has AVX2 and F16C; the values are readable.
    unsafe fn load(at: *const u8) -> __m256;
}

struct F32;
struct F16;
struct Bf16;

impl Load for F32 {
    const BYTES: usize = 4;

    #[target_feature(enable = "avx2,f16c")]
    #[inline]
    unsafe fn load(at: *const u8) -> __m256 {
        // SAFETY: by this function's contract.
        unsafe { _mm256_loadu_ps(at.cast()) }
    }
}

impl Load for F16 {
    const BYTES: usize = 2;

    #[target_feature(enable = "avx2,f16c")]
    #[inline]
    unsafe fn load(at: *const u8) -> __m256 {
        // SAFETY: by this function's contract.
        _mm256_cvtph_ps(unsafe { _mm_loadu_si128(at.cast()) })
    }
}

impl Load for Bf16 {
    const BYTES: usize = 2;

    #[target_feature(enable = "avx2,f16c")]
    #[inline]
    unsafe fn load(at: *const u8) -> __m256 {
        // SAFETY: by this function's contract.
        let halves = unsafe { _mm_loadu_si128(at.cast()) };
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
    }
}
