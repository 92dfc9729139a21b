//! K-quants as they lie in the file, one row times one row: the lanes of a vector share a sum, eight superblocks are
//! finished together.

use core::arch::x86_64::*;

use super::{add_terms, halves, load, prefetch, sum_eight, sum_fours};
use crate::activations::Batch;
use crate::blocks::six_bits;
use crate::simd::PREFETCH;

/// Superblocks whose sums are finished together.
const TURN: usize = 8;

/// `Q4_K`, and `Q5_K` where `FIVE`.
///
/// # Safety
/// As [`Kernels::row`](crate::simd::Kernels::row).
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn q45k<const FIVE: bool>(row: &[u8], x: &Batch) -> f32 {
    let (size, nibbles) = if FIVE { (176, 48) } else { (144, 16) };
    assert!(x.rows == 1 && row.len() == x.blocks * size);
    let (low4, bit4) = (_mm256_set1_epi8(15), _mm256_set1_epi8(16));
    // The order of the activations' sums (`PAIRS`), as bytes.
    let pairs = _mm_set1_epi64x(0x0705_0604_0301_0200);
    let (mut ds, mut dmins) = ([0u16; TURN], [0u16; TURN]);
    let (mut parts, mut mins) = ([_mm256_setzero_si256(); TURN], [_mm_setzero_si128(); TURN]);
    let mut acc = 0.0;
    for first in (0..x.blocks).step_by(TURN) {
        let count = (x.blocks - first).min(TURN);
        for i in 0..count {
            let p = row.as_ptr().wrapping_add((first + i) * size);
            let q = x.q.as_ptr().wrapping_add((first + i) * 256);
            prefetch(p, PREFETCH, 3);
            // SAFETY: block `first + i` of the row, and of the activations.
            unsafe {
                let word = |at: usize| p.wrapping_add(at).cast::<u32>().read_unaligned();
                (ds[i], dmins[i]) = (word(0) as u16, (word(0) >> 16) as u16);
                let m = _mm_cvtsi64_si128(six_bits(word(8), word(12) >> 4) as i64);
                let m = _mm_cvtepu8_epi16(_mm_shuffle_epi8(m, pairs));
                mins[i] = _mm_madd_epi16(
                    m,
                    _mm_loadu_si128(x.sums32.as_ptr().wrapping_add((first + i) * 8).cast()),
                );
                let scales = _mm_cvtsi64_si128(six_bits(word(4), word(12)) as i64);
                let scales = _mm256_broadcastsi128_si256(_mm_cvtepu8_epi16(scales));
                let fifth = if FIVE { load(p.wrapping_add(16)) } else { low4 };
                let mut sum = _mm256_setzero_si256();
                for c in 0..4 {
                    let v = load(p.wrapping_add(nibbles + 32 * c));
                    let mut w =
                        [_mm256_and_si256(v, low4), _mm256_and_si256(_mm256_srli_epi16::<4>(v), low4)];
                    for j in 0..2 {
                        let s = 2 * c + j;
                        if FIVE {
                            // Bit s of each byte goes to bit 4.
                            let (up, down) = (4usize.saturating_sub(s) as i32, s.saturating_sub(4) as i32);
                            let (up, down) = (_mm_cvtsi32_si128(up), _mm_cvtsi32_si128(down));
                            let bit = _mm256_srl_epi16(_mm256_sll_epi16(fifth, up), down);
                            w[j] = _mm256_or_si256(w[j], _mm256_and_si256(bit, bit4));
                        }
                        let both_bytes = _mm256_set1_epi16(((2 * s) | ((2 * s + 1) << 8)) as i16);
                        let scale = _mm256_shuffle_epi8(scales, both_bytes);
                        let dot = _mm256_maddubs_epi16(w[j], load(q.wrapping_add(32 * s)));
                        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(dot, scale));
                    }
                }
                parts[i] = sum;
            }
        }
        // SAFETY: eight halves each.
        let (d, dmin) = unsafe { (halves(ds.as_ptr()), halves(dmins.as_ptr())) };
        let msum = sum_fours([0, 1, 2, 3].map(|i| _mm256_set_m128i(mins[i + 4], mins[i])));
        let isum = _mm256_mul_ps(d, _mm256_cvtepi32_ps(sum_eight(&parts)));
        let terms = _mm256_sub_ps(isum, _mm256_mul_ps(dmin, _mm256_cvtepi32_ps(msum)));
        acc = add_terms(acc, terms, &x.d[first..first + count]);
    }
    acc
}

/// `Q6_K`.
///
/// # Safety
/// As [`Kernels::row`](crate::simd::Kernels::row).
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn q6k(row: &[u8], x: &Batch) -> f32 {
    const SIZE: usize = 210;
    assert!(x.rows == 1 && row.len() == x.blocks * SIZE);
    let (low4, high2) = (_mm256_set1_epi8(15), _mm256_set1_epi8(0x30));
    // The order of the activations' sums (`PAIRS`), as bytes.
    let pairs = _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
    let mut ds = [0u16; TURN];
    let mut parts = [_mm256_setzero_si256(); TURN];
    let mut acc = 0.0;
    for first in (0..x.blocks).step_by(TURN) {
        let count = (x.blocks - first).min(TURN);
        for i in 0..count {
            let p = row.as_ptr().wrapping_add((first + i) * SIZE);
            let q = x.q.as_ptr().wrapping_add((first + i) * 256);
            prefetch(p, PREFETCH, 4);
            // SAFETY: block `first + i` of the row, and of the activations.
            unsafe {
                ds[i] = p.wrapping_add(208).cast::<u16>().read_unaligned();
                let scales = _mm_loadu_si128(p.wrapping_add(192).cast());
                // The weights are 32 less than their six bits say.
                let sums = load(x.sums16.as_ptr().wrapping_add((first + i) * 16));
                let excess = _mm256_madd_epi16(_mm256_cvtepi8_epi16(_mm_shuffle_epi8(scales, pairs)), sums);
                let mut sum = _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_slli_epi32::<5>(excess));
                for half in 0..2 {
                    let low = [load(p.wrapping_add(64 * half)), load(p.wrapping_add(64 * half + 32))];
                    let high = load(p.wrapping_add(128 + 32 * half));
                    let high = [
                        _mm256_slli_epi16::<4>(high),
                        _mm256_slli_epi16::<2>(high),
                        high,
                        _mm256_srli_epi16::<2>(high),
                    ];
                    for part in 0..4 {
                        let low = low[part % 2];
                        let low = if part < 2 { low } else { _mm256_srli_epi16::<4>(low) };
                        let (low, high) = (_mm256_and_si256(low, low4), _mm256_and_si256(high[part], high2));
                        let a = load(q.wrapping_add(128 * half + 32 * part));
                        let dot = _mm256_maddubs_epi16(_mm256_or_si256(low, high), a);
                        // Two runs of 16 values, a scale each.
                        let s = (8 * half + 2 * part) as i8;
                        let bytes = _mm256_set_m128i(_mm_set1_epi8(s + 1), _mm_set1_epi8(s));
                        let scale = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(scales), bytes);
                        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(dot, _mm256_srai_epi16::<8>(scale)));
                    }
                }
                parts[i] = sum;
            }
        }
        // SAFETY: eight halves.
        let d = unsafe { halves(ds.as_ptr()) };
        let terms = _mm256_mul_ps(d, _mm256_cvtepi32_ps(sum_eight(&parts)));
        acc = add_terms(acc, terms, &x.d[first..first + count]);
    }
    acc
}
