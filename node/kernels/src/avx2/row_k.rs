//! K-quants as they lie in the file, one row times one row: the lanes of a vector share a sum, eight superblocks are
//! finished together.

use core::arch::x86_64::*;

use super::turns::{TURN, Terms, heads};
use super::{halves, load, prefetch, sum_eight};
use crate::activations::Batch;

/// `Q4_K`, and `Q5_K` where `FIVE`.
pub(super) struct Q45k<const FIVE: bool>;

impl<const FIVE: bool> Terms for Q45k<FIVE> {
    const SIZE: usize = if FIVE { 176 } else { 144 };

    #[target_feature(enable = "avx2,f16c")]
    unsafe fn terms<const FULL: bool>(
        row: *const u8,
        x: &Batch,
        first: usize,
        count: usize,
        ahead: usize,
    ) -> __m256 {
        let nibbles = if FIVE { 48 } else { 16 };
        let (low4, bit4) = (_mm256_set1_epi8(15), _mm256_set1_epi8(16));
        let mut parts = [_mm256_setzero_si256(); TURN];
        let count = if FULL { TURN } else { count };
        // SAFETY: by this function's contract.
        let heads = unsafe { heads(row, Self::SIZE, x, first, count) };
        for i in 0..count {
            let p = row.wrapping_add((first + i) * Self::SIZE);
            let q = x.q.as_ptr().wrapping_add((first + i) * 256);
            prefetch(p, ahead, 3);
            // SAFETY: block `first + i` of the row, and of the activations.
            unsafe {
                let scales = _mm256_broadcastsi128_si256(_mm_loadu_si128(heads.scales[i].as_ptr().cast()));
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
        let isum = _mm256_mul_ps(heads.d, _mm256_cvtepi32_ps(sum_eight(&parts)));
        let msum = _mm256_mul_ps(heads.dmin, _mm256_cvtepi32_ps(heads.msum));
        _mm256_sub_ps(isum, msum)
    }
}

/// `Q6_K`.
pub(super) struct Q6k;

impl Terms for Q6k {
    const SIZE: usize = 210;

    #[target_feature(enable = "avx2,f16c")]
    unsafe fn terms<const FULL: bool>(
        row: *const u8,
        x: &Batch,
        first: usize,
        count: usize,
        ahead: usize,
    ) -> __m256 {
        let count = if FULL { TURN } else { count };
        let (low4, high2) = (_mm256_set1_epi8(15), _mm256_set1_epi8(0x30));
        // The order of the activations' sums (`PAIRS`), as bytes.
        let pairs = _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
        let mut ds = [0u16; TURN];
        let mut parts = [_mm256_setzero_si256(); TURN];
        for i in 0..count {
            let p = row.wrapping_add((first + i) * Self::SIZE);
            let q = x.q.as_ptr().wrapping_add((first + i) * 256);
            prefetch(p, ahead, 4);
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
        _mm256_mul_ps(d, _mm256_cvtepi32_ps(sum_eight(&parts)))
    }
}
