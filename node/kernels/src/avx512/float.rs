//! `F16`, `BF16` and `F32`: a vector holds the 16 partial sums of one output.

use core::arch::x86_64::*;

use super::prefetch;
use crate::activations::BATCH;
use crate::lanes::{LANES, sum};
use crate::simd::prefetch_of_pair;
use crate::weight_type::WeightType;

/// # Safety
/// As [`Kernels::float`](crate::simd::Kernels::float).
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
pub(super) unsafe fn rows(ty: WeightType, rows: &[&[u8]], x: &[&[f32]], out: &mut [[f32; BATCH]; 2]) {
    // SAFETY: by this function's contract.
    unsafe {
        match ty {
            WeightType::F16 => by_rows::<F16>(rows, x, out),
            WeightType::Bf16 => by_rows::<Bf16>(rows, x, out),
            _ => by_rows::<F32>(rows, x, out),
        }
    }
}

/// # Safety
/// As [`rows`], for the type `L`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
unsafe fn by_rows<L: Load>(rows: &[&[u8]], x: &[&[f32]], out: &mut [[f32; BATCH]; 2]) {
    // SAFETY: by this function's contract.
    unsafe {
        match (rows, x) {
            ([a, b], [x]) => dot::<L, 2, 1>([a, b], [x], out),
            ([a, b], [x, y]) => dot::<L, 2, 2>([a, b], [x, y], out),
            ([a, b], [x, y, z]) => dot::<L, 2, 3>([a, b], [x, y, z], out),
            ([a, b], [x, y, z, u]) => dot::<L, 2, 4>([a, b], [x, y, z, u], out),
            ([a], [x]) => dot::<L, 1, 1>([a], [x], out),
            ([a], [x, y]) => dot::<L, 1, 2>([a], [x, y], out),
            ([a], [x, y, z]) => dot::<L, 1, 3>([a], [x, y, z], out),
            ([a], [x, y, z, u]) => dot::<L, 1, 4>([a], [x, y, z, u], out),
            _ => {}
        }
    }
}

/// # Safety
/// As [`rows`], for the type `L`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
unsafe fn dot<L: Load, const R: usize, const M: usize>(
    rows: [&[u8]; R],
    x: [&[f32]; M],
    out: &mut [[f32; BATCH]; 2],
) {
    let cols = x[0].len();
    let ahead = prefetch_of_pair(rows[0].len());
    assert!(x.iter().all(|x| x.len() == cols) && rows.iter().all(|row| row.len() == cols * L::BYTES));
    let mut acc = [[_mm512_setzero_ps(); M]; R];
    for k in (0..cols).step_by(LANES) {
        let mask = if cols - k >= LANES { 0xffff } else { (1 << (cols - k)) - 1 };
        // SAFETY: the mask ends at the last value of the rows.
        let w = rows.map(|row| unsafe { L::load(row.as_ptr().wrapping_add(k * L::BYTES), mask) });
        if k * L::BYTES % 64 == 0 {
            rows.into_iter().for_each(|row| prefetch(row.as_ptr().wrapping_add(k * L::BYTES), ahead, 1));
        }
        for m in 0..M {
            // SAFETY: as above.
            let a = unsafe { _mm512_maskz_loadu_ps(mask, x[m].as_ptr().wrapping_add(k)) };
            for r in 0..R {
                acc[r][m] = _mm512_add_ps(acc[r][m], _mm512_mul_ps(w[r], a));
            }
        }
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
