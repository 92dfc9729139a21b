//! K-quants as they lie in the file, one row times one row: the lanes of a vector share a sum.
//!
//! Eight superblocks at a time leave a vector of partial integers each; these are summed up together, by transposition, and
//! then added to the one f32 in order.

use core::arch::x86_64::*;

use super::{add_lanes, load, prefetch, sum_fours};
use crate::activations::Batch;
use crate::avx2::halves;
use crate::avx2::turns::{TURN, Terms, heads};

/// Superblocks taken apart.
pub(crate) struct Blocks {
    /// The integers of each; their sum counts.
    pub parts: [__m512i; TURN],
    /// What they are multiplied by.
    pub d: __m256,
    /// What is taken off after that.
    pub less: __m256,
}

/// The kernel of one type.
pub(crate) trait Parts {
    /// Superblocks `first..first + count` of a row and of `x`, as [`Terms::terms`] wants them.
    ///
    /// # Safety
    /// As [`Terms::terms`].
    unsafe fn parts<const FULL: bool>(
        row: *const u8,
        x: &Batch,
        first: usize,
        count: usize,
        ahead: usize,
    ) -> Blocks;
}

/// `Q4_K`, and `Q5_K` where `FIVE`.
pub(super) struct Q45k<const FIVE: bool>;

impl<const FIVE: bool> Terms for Q45k<FIVE> {
    const SIZE: usize = if FIVE { 176 } else { 144 };

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
    #[inline]
    unsafe fn terms<const FULL: bool>(
        row: *const u8,
        x: &Batch,
        first: usize,
        count: usize,
        ahead: usize,
    ) -> __m256 {
        // SAFETY: by this function's contract.
        let Blocks { parts, d, less } = unsafe { Self::parts::<FULL>(row, x, first, count, ahead) };
        _mm256_sub_ps(_mm256_mul_ps(d, _mm256_cvtepi32_ps(sum_eight(&parts))), less)
    }
}

impl<const FIVE: bool> Parts for Q45k<FIVE> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
    #[inline]
    unsafe fn parts<const FULL: bool>(
        row: *const u8,
        x: &Batch,
        first: usize,
        count: usize,
        ahead: usize,
    ) -> Blocks {
        let nibbles = if FIVE { 48 } else { 16 };
        let (low4, bit4) = (_mm512_set1_epi8(15), _mm512_set1_epi8(16));
        let mut parts = [_mm512_setzero_si512(); TURN];
        let count = if FULL { TURN } else { count };
        // SAFETY: by this function's contract.
        let heads = unsafe { heads(row, <Self as Terms>::SIZE, x, first, count) };
        for i in 0..count {
            let p = row.wrapping_add((first + i) * <Self as Terms>::SIZE);
            let q = x.q.as_ptr().cast::<u8>().wrapping_add((first + i) * 256);
            prefetch(p, ahead, 3);
            // SAFETY: block `first + i` of the row, and of the activations.
            unsafe {
                let scales = _mm512_broadcast_i32x4(_mm_loadu_si128(heads.scales[i].as_ptr().cast()));
                let fifth = if FIVE {
                    _mm512_broadcast_i64x4(_mm256_loadu_si256(p.wrapping_add(16).cast()))
                } else {
                    _mm512_setzero_si512()
                };
                let mut sum = _mm512_setzero_si512();
                for c in 0..2 {
                    // Chunks 2c and 2c + 1: sub-blocks 4c and 4c + 2 in the low nibbles, 4c + 1 and 4c + 3 in the high ones.
                    let v = load(p.wrapping_add(nibbles + 64 * c));
                    let mut w =
                        [_mm512_and_si512(v, low4), _mm512_and_si512(_mm512_srli_epi16::<4>(v), low4)];
                    let (a, b) = (load(q.wrapping_add(128 * c)), load(q.wrapping_add(128 * c + 64)));
                    let a = [_mm512_shuffle_i64x2::<0x44>(a, b), _mm512_shuffle_i64x2::<0xee>(a, b)];
                    for j in 0..2 {
                        if FIVE {
                            let turn = 4 - 4 * c as i32 - j as i32;
                            let bit = _mm512_rolv_epi32(fifth, two(turn, turn - 2));
                            w[j] = _mm512_ternarylogic_epi32::<0xf8>(w[j], bit, bit4); // w | bit & bit4
                        }
                        let pair = |s: i32| ((2 * s) | ((2 * s + 1) << 8)) * 0x1_0001; // bytes of the 16-bit scale s
                        let s = 4 * c as i32 + j as i32;
                        let scale = _mm512_shuffle_epi8(scales, two(pair(s), pair(s + 2)));
                        sum = _mm512_dpwssd_epi32(sum, _mm512_maddubs_epi16(w[j], a[j]), scale);
                    }
                }
                parts[i] = sum;
            }
        }
        let less = _mm256_mul_ps(heads.dmin, _mm256_cvtepi32_ps(heads.msum));
        Blocks { parts, d: heads.d, less }
    }
}

/// `Q6_K`.
pub(super) struct Q6k;

impl Terms for Q6k {
    const SIZE: usize = 210;

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
    #[inline]
    unsafe fn terms<const FULL: bool>(
        row: *const u8,
        x: &Batch,
        first: usize,
        count: usize,
        ahead: usize,
    ) -> __m256 {
        // SAFETY: by this function's contract.
        let Blocks { parts, d, .. } = unsafe { Self::parts::<FULL>(row, x, first, count, ahead) };
        _mm256_mul_ps(d, _mm256_cvtepi32_ps(sum_eight(&parts)))
    }
}

impl Parts for Q6k {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
    #[inline]
    unsafe fn parts<const FULL: bool>(
        row: *const u8,
        x: &Batch,
        first: usize,
        count: usize,
        ahead: usize,
    ) -> Blocks {
        let count = if FULL { TURN } else { count };
        let (low4, high2) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
        let turns = [two(4, 2), two(0, -2)];
        // `PAIRS` of the activations' sums, in each four bytes.
        let pairs = _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
        let mut ds = [0u16; TURN];
        let mut parts = [_mm512_setzero_si512(); TURN];
        for i in 0..count {
            let p = row.wrapping_add((first + i) * <Self as Terms>::SIZE);
            let q = x.q.as_ptr().cast::<u8>().wrapping_add((first + i) * 256);
            prefetch(p, ahead, 4);
            // SAFETY: block `first + i` of the row, and of the activations.
            unsafe {
                ds[i] = p.wrapping_add(208).cast::<u16>().read_unaligned();
                let scales = _mm_loadu_si128(p.wrapping_add(192).cast());
                // The weights are 32 less than their six bits say.
                let sums = _mm256_loadu_si256(x.sums16.as_ptr().wrapping_add((first + i) * 16).cast());
                let excess = _mm256_madd_epi16(_mm256_cvtepi8_epi16(_mm_shuffle_epi8(scales, pairs)), sums);
                let minus = _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_slli_epi32::<5>(excess));
                let mut sum = _mm512_zextsi256_si512(minus);
                let scales = _mm512_castsi256_si512(_mm256_cvtepi8_epi16(scales));
                for half in 0..2 {
                    let low = load(p.wrapping_add(64 * half));
                    let low =
                        [_mm512_and_si512(low, low4), _mm512_and_si512(_mm512_srli_epi16::<4>(low), low4)];
                    let high =
                        _mm512_broadcast_i64x4(_mm256_loadu_si256(p.wrapping_add(128 + 32 * half).cast()));
                    for j in 0..2 {
                        let bits = _mm512_rolv_epi32(high, turns[j]);
                        let w = _mm512_ternarylogic_epi32::<0xf8>(low[j], bits, high2); // low | bits & high2
                        let a = load(q.wrapping_add(128 * half + 64 * j));
                        let scale = _mm512_permutexvar_epi16(fours(8 * half as i16 + 4 * j as i16), scales);
                        sum = _mm512_dpwssd_epi32(sum, _mm512_maddubs_epi16(w, a), scale);
                    }
                }
                parts[i] = sum;
            }
        }
        // SAFETY: eight halves.
        let d = unsafe { halves(ds.as_ptr()) };
        Blocks { parts, d, less: _mm256_setzero_ps() }
    }
}

/// `low` in the lower eight lanes, `high` in the upper.
#[target_feature(enable = "avx512f")]
#[inline]
fn two(low: i32, high: i32) -> __m512i {
    _mm512_inserti64x4::<1>(_mm512_set1_epi32(low), _mm256_set1_epi32(high))
}

/// `first`, `first + 1`, … eight times each, as 16-bit lanes.
#[target_feature(enable = "avx512f")]
#[inline]
fn fours(first: i16) -> __m512i {
    let lane = |i: i16| _mm_set1_epi16(first + i);
    let low = _mm256_set_m128i(lane(1), lane(0));
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), _mm256_set_m128i(lane(3), lane(2)))
}

/// The sums of eight vectors.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
#[inline]
fn sum_eight(v: &[__m512i; TURN]) -> __m256i {
    let half = add_lanes(sum_fours([v[0], v[1], v[2], v[3]]), sum_fours([v[4], v[5], v[6], v[7]]));
    _mm512_castsi512_si256(add_lanes(half, half))
}
