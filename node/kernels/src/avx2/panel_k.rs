//! K-quants, packed: lane i of every vector is output i of the panel's side.
//!
//! Products of unsigned weights and signed activations are summed in 16 bits as far as these last, then multiplied by the scale
//! while they are widened: `127 · 15 · 2 · 8`, `127 · 31 · 2 · 4` and `127 · 63 · 2 · 2` are below 2¹⁵.

use core::arch::x86_64::*;

use super::{broadcast, halves, load, low_halves, prefetch, store};
use crate::activations::Batch;
use crate::matrix::PANEL;
use crate::simd::{PREFETCH, PanelOutput};

/// `Q4_K`, and `Q5_K` where `FIVE`. Words of a tile: `d | dmin`, 3 of scales and minima, (8 of fifth bits,) 32 of nibbles.
///
/// # Safety
/// As [`Kernels::panels`](crate::simd::Kernels::panels); `x` has `M` rows.
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn q45k<const FIVE: bool, const M: usize>(
    panel: &[u8],
    side: usize,
    x: &Batch,
    stream: bool,
    out: &mut PanelOutput,
) {
    let tile_bytes = PANEL * if FIVE { 176 } else { 144 };
    let (nibbles, lasting) = if FIVE { (12 * 64, 4) } else { (4 * 64, 8) };
    assert!(x.rows == M && panel.len() == x.blocks * tile_bytes);
    let (low4, bit4) = (_mm256_set1_epi8(15), _mm256_set1_epi8(16));
    let mut acc = [_mm256_setzero_ps(); M];
    for b in 0..x.blocks {
        let tile = panel.as_ptr().wrapping_add(b * tile_bytes + side * 32);
        let q = x.q.as_ptr().wrapping_add(b * M * 256);
        let mut isum = [_mm256_setzero_si256(); M];
        for s in 0..8 {
            if stream {
                prefetch(tile.wrapping_add(s * tile_bytes / 8), PREFETCH, tile_bytes.div_ceil(512));
            }
            // SAFETY: inside the tile; sub-block s of the M rows in block b.
            unsafe {
                let scale = pairs(scales(tile, s / 4), s % 4);
                let (shift, turn) = (_mm_cvtsi32_si128(4 * (s as i32 % 2)), 4 - s as i32);
                for first in (0..8).step_by(lasting) {
                    let mut dots = [_mm256_setzero_si256(); M];
                    for i in first..first + lasting {
                        let v = load(tile.wrapping_add(nibbles + (s / 2 * 8 + i) * 64));
                        let mut w = _mm256_and_si256(_mm256_srl_epi16(v, shift), low4);
                        if FIVE {
                            // Bit s of each byte goes to bit 4.
                            let v = load(tile.wrapping_add(4 * 64 + i * 64));
                            let (up, down) =
                                (_mm_cvtsi32_si128(turn.max(0)), _mm_cvtsi32_si128((-turn).max(0)));
                            let fifth = _mm256_srl_epi16(_mm256_sll_epi16(v, up), down);
                            w = _mm256_or_si256(w, _mm256_and_si256(fifth, bit4));
                        }
                        for r in 0..M {
                            let a = broadcast(q.wrapping_add(r * 256 + s * 32 + i * 4));
                            dots[r] = _mm256_add_epi16(dots[r], _mm256_maddubs_epi16(w, a));
                        }
                    }
                    for r in 0..M {
                        isum[r] = _mm256_add_epi32(isum[r], _mm256_madd_epi16(dots[r], scale));
                    }
                }
            }
        }
        // SAFETY: the head of the tile; the sums and scales of the M rows in block b.
        unsafe {
            let head = load(tile);
            let (d, dmin) = (low_halves(head), low_halves(_mm256_srli_epi32::<16>(head)));
            let mut msum = [_mm256_setzero_si256(); M];
            for half in 0..2 {
                let mins = mins(tile, half);
                let even = _mm256_and_si256(mins, _mm256_set1_epi16(0xff));
                for (j, pairs) in [even, _mm256_srli_epi16::<8>(mins)].into_iter().enumerate() {
                    for r in 0..M {
                        let sums =
                            broadcast(x.sums32.as_ptr().wrapping_add((b * M + r) * 8 + half * 4 + j * 2));
                        msum[r] = _mm256_add_epi32(msum[r], _mm256_madd_epi16(pairs, sums));
                    }
                }
            }
            for r in 0..M {
                let sum = _mm256_mul_ps(d, _mm256_cvtepi32_ps(isum[r]));
                let sum = _mm256_sub_ps(sum, _mm256_mul_ps(dmin, _mm256_cvtepi32_ps(msum[r])));
                acc[r] = _mm256_add_ps(acc[r], _mm256_mul_ps(sum, _mm256_set1_ps(x.d[b * M + r])));
            }
        }
    }
    store(&acc, side, out);
}

/// `Q6_K`. Words of a tile: 32 of low nibbles, 16 of high pairs of bits, 4 of scales; then `d`.
///
/// # Safety
/// As [`Kernels::panels`](crate::simd::Kernels::panels); `x` has `M` rows.
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn q6k<const M: usize>(
    panel: &[u8],
    side: usize,
    x: &Batch,
    stream: bool,
    out: &mut PanelOutput,
) {
    const TILE: usize = PANEL * 210;
    const HIGH: usize = 32 * 64;
    const SCALES: usize = 48 * 64;
    assert!(x.rows == M && panel.len() == x.blocks * TILE);
    let (low4, high2) = (_mm256_set1_epi8(15), _mm256_set1_epi8(0x30));
    let mut acc = [_mm256_setzero_ps(); M];
    for b in 0..x.blocks {
        let tile = panel.as_ptr().wrapping_add(b * TILE + side * 32);
        let q = x.q.as_ptr().wrapping_add(b * M * 256);
        let mut isum = [_mm256_setzero_si256(); M];
        for s in 0..16 {
            let (half, part, quarter) = (s / 8, s / 2 % 4, s % 2);
            if stream {
                prefetch(tile.wrapping_add(s * (TILE / 16)), PREFETCH, 4);
            }
            // SAFETY: inside the tile; run s of 16 values of the M rows in block b.
            unsafe {
                let scale = signed_pairs(load(tile.wrapping_add(SCALES + s / 4 * 64)), s % 4);
                let shift = _mm_cvtsi32_si128(part as i32 / 2 * 4);
                let (up, down) = ([4, 2, 0, 0][part], [0, 0, 0, 2][part]);
                let (up, down) = (_mm_cvtsi32_si128(up), _mm_cvtsi32_si128(down));
                for first in [4 * quarter, 4 * quarter + 2] {
                    let mut dots = [_mm256_setzero_si256(); M];
                    for i in first..first + 2 {
                        let low = load(tile.wrapping_add((half * 16 + part % 2 * 8 + i) * 64));
                        let high = load(tile.wrapping_add(HIGH + (half * 8 + i) * 64));
                        let low = _mm256_and_si256(_mm256_srl_epi16(low, shift), low4);
                        let high = _mm256_srl_epi16(_mm256_sll_epi16(high, up), down);
                        let w = _mm256_or_si256(low, _mm256_and_si256(high, high2));
                        for r in 0..M {
                            let a = broadcast(q.wrapping_add(r * 256 + half * 128 + part * 32 + i * 4));
                            dots[r] = _mm256_add_epi16(dots[r], _mm256_maddubs_epi16(w, a));
                        }
                    }
                    for r in 0..M {
                        isum[r] = _mm256_add_epi32(isum[r], _mm256_madd_epi16(dots[r], scale));
                    }
                }
            }
        }
        // SAFETY: the scales and `d` of the tile; the sums and scales of the M rows in block b.
        unsafe {
            // The weights are 32 less than their six bits say.
            let mut excess = [_mm256_setzero_si256(); M];
            for i in 0..4 {
                let word = load(tile.wrapping_add(SCALES + i * 64));
                let even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(word));
                for (j, pairs) in [even, _mm256_srai_epi16::<8>(word)].into_iter().enumerate() {
                    for r in 0..M {
                        let sums =
                            broadcast(x.sums16.as_ptr().wrapping_add((b * M + r) * 16 + i * 4 + j * 2));
                        excess[r] = _mm256_add_epi32(excess[r], _mm256_madd_epi16(pairs, sums));
                    }
                }
            }
            let d = halves(panel.as_ptr().wrapping_add(b * TILE + 52 * 64 + side * 16));
            for r in 0..M {
                let isum = _mm256_sub_epi32(isum[r], _mm256_slli_epi32::<5>(excess[r]));
                let sum = _mm256_mul_ps(d, _mm256_cvtepi32_ps(isum));
                acc[r] = _mm256_add_ps(acc[r], _mm256_mul_ps(sum, _mm256_set1_ps(x.d[b * M + r])));
            }
        }
    }
    store(&acc, side, out);
}

/// Scales 4·half to 4·half + 3 of each row, a byte each. The layout is told at `blocks::read_scales_and_mins`.
///
/// # Safety
/// `tile` is a side of a whole tile of `Q4_K` or `Q5_K`.
#[target_feature(enable = "avx2,f16c")]
#[inline]
unsafe fn scales(tile: *const u8, half: usize) -> __m256i {
    // SAFETY: words 1 and 3 of a tile.
    let (first, last) = unsafe { (load(tile.wrapping_add(64)), load(tile.wrapping_add(3 * 64))) };
    six_bits(first, last, half)
}

/// Minima 4·half to 4·half + 3 of each row, a byte each.
///
/// # Safety
/// As [`scales`].
#[target_feature(enable = "avx2,f16c")]
#[inline]
unsafe fn mins(tile: *const u8, half: usize) -> __m256i {
    // SAFETY: words 2 and 3 of a tile.
    let (first, last) = unsafe { (load(tile.wrapping_add(2 * 64)), load(tile.wrapping_add(3 * 64))) };
    six_bits(first, _mm256_srli_epi16::<4>(last), half)
}

/// Half 0: the low six bits of `first`; half 1: the low four of `last` and the high two of `first`.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn six_bits(first: __m256i, last: __m256i, half: usize) -> __m256i {
    if half == 0 {
        return _mm256_and_si256(first, _mm256_set1_epi8(63));
    }
    let high = _mm256_and_si256(_mm256_srli_epi16::<2>(first), _mm256_set1_epi8(0x30));
    _mm256_or_si256(_mm256_and_si256(last, _mm256_set1_epi8(15)), high)
}

/// Byte `i` of each word, twice, as 16-bit numbers.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn pairs(words: __m256i, i: usize) -> __m256i {
    _mm256_shuffle_epi8(words, bytes_of_words(i, 0x8000_8000u32 as i32, 0x0000_0000))
}

/// Byte `i` of each word, twice, as signed 16-bit numbers.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn signed_pairs(words: __m256i, i: usize) -> __m256i {
    _mm256_srai_epi16::<8>(_mm256_shuffle_epi8(words, bytes_of_words(i, 0x0080_0080, 8)))
}

/// Where a shuffle takes its bytes: `nothing` has the top bit where a byte becomes zero; the others are byte `i` of their word,
/// `up` bits higher.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn bytes_of_words(i: usize, nothing: i32, up: i32) -> __m256i {
    let word = |n: i32| nothing + (((4 * n + i as i32) * 0x1_0001) << up);
    let words = _mm_setr_epi32(word(0), word(1), word(2), word(3));
    _mm256_broadcastsi128_si256(words)
}
