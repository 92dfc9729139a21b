//! `Q8_0` and `Q4_0` as they lie in the file, one row times one row, eight blocks at a time.

use core::arch::x86_64::*;

use super::turns::add_terms;
use super::{halves, load, prefetch, sum_eight};
use crate::activations::Batch;
use crate::simd::prefetch_of;

/// Blocks whose sums are finished together.
const TURN: usize = 8;

/// `Q8_0`. The weights are made unsigned by giving their signs to the activations.
///
/// # Safety
/// As [`Kernels::rows`](crate::simd::Kernels::rows).
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn q8_0(rows: [&[u8]; 2], x: &Batch) -> [f32; 2] {
    // SAFETY: `by_turns` gives a whole block and 32 values.
    let dot = |p: *const u8, q: *const i8| unsafe {
        let w = load(p.wrapping_add(2));
        _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(load(q), w))
    };
    // SAFETY: by this function's contract.
    unsafe { by_turns::<34, false>(rows, x, dot) }
}

/// `Q4_0`. The weights are 8 less than their nibbles.
///
/// # Safety
/// As [`Kernels::rows`](crate::simd::Kernels::rows).
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn q4_0(rows: [&[u8]; 2], x: &Batch) -> [f32; 2] {
    // SAFETY: `by_turns` gives a whole block and 32 values.
    let dot = |p: *const u8, q: *const i8| unsafe {
        let v = _mm_loadu_si128(p.wrapping_add(2).cast());
        let w = _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16::<4>(v), v), _mm256_set1_epi8(15));
        _mm256_maddubs_epi16(w, load(q))
    };
    // SAFETY: by this function's contract.
    unsafe { by_turns::<18, true>(rows, x, dot) }
}

/// `dot` multiplies a block of `SIZE` bytes with 32 values, to 16-bit sums of two; `OFFSET`: the weights are 8 less.
///
/// # Safety
/// As [`Kernels::rows`](crate::simd::Kernels::rows).
#[target_feature(enable = "avx2,f16c")]
#[inline]
unsafe fn by_turns<const SIZE: usize, const OFFSET: bool>(
    rows: [&[u8]; 2],
    x: &Batch,
    dot: impl Fn(*const u8, *const i8) -> __m256i,
) -> [f32; 2] {
    assert!(x.rows == 1 && rows.iter().all(|row| row.len() == x.blocks * SIZE));
    let (ones, ahead) = (_mm256_set1_epi16(1), prefetch_of(2, rows[0].len()));
    let (mut ds, mut offsets, mut d_a) = ([0u16; TURN], [0i32; TURN], [0.0; TURN]);
    let mut parts = [_mm256_setzero_si256(); TURN];
    let mut terms = [_mm256_setzero_ps(); 2];
    let mut acc = [0.0; 2];
    for first in (0..x.blocks).step_by(TURN) {
        let count = (x.blocks - first).min(TURN);
        d_a[..count].copy_from_slice(&x.d[first..first + count]);
        if OFFSET {
            offsets[..count].copy_from_slice(&x.sums8[first..first + count]);
        }
        for (row, terms) in rows.iter().zip(&mut terms) {
            prefetch(row.as_ptr().wrapping_add(first * SIZE), ahead, SIZE * TURN / 64 + 1);
            for i in 0..count {
                let p = row.as_ptr().wrapping_add((first + i) * SIZE);
                // SAFETY: the head of block `first + i`.
                ds[i] = unsafe { p.cast::<u16>().read_unaligned() };
                parts[i] = _mm256_madd_epi16(dot(p, x.q.as_ptr().wrapping_add((first + i) * 32)), ones);
            }
            let mut isum = sum_eight(&parts);
            if OFFSET {
                // SAFETY: eight offsets.
                isum = _mm256_add_epi32(isum, unsafe { load(offsets.as_ptr()) });
            }
            // SAFETY: eight halves.
            *terms = _mm256_mul_ps(unsafe { halves(ds.as_ptr()) }, _mm256_cvtepi32_ps(isum));
        }
        // SAFETY: eight scales.
        add_terms(&mut acc, terms, unsafe { _mm256_loadu_ps(d_a.as_ptr()) }, count);
    }
    acc
}
