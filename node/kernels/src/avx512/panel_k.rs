//! K-quants, packed: lane i of every vector is output i of the panel.

use core::arch::x86_64::*;

use super::sums::Sums;
use super::{broadcast, load, prefetch};
use crate::activations::Batch;
use crate::matrix::PANEL;
use crate::simd::{PREFETCH, PanelOutput};

type Int = __m512i;

/// `Q4_K`, and `Q5_K` where `FIVE`. Words of a tile: `d | dmin`, 3 of scales and minima, (8 of fifth bits,) 32 of nibbles.
///
/// # Safety
/// As [`Kernels::panels`](crate::simd::Kernels::panels); `x` has `M` rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
pub(super) unsafe fn q45k<S: Sums, const FIVE: bool, const T: usize, const M: usize>(
    panels: [&[u8]; T],
    x: &Batch,
    stream: bool,
    out: &mut [PanelOutput; 2],
) {
    let tile_bytes = PANEL * if FIVE { 176 } else { 144 };
    let nibbles = if FIVE { 12 * 64 } else { 4 * 64 };
    assert!(x.rows == M && panels.iter().all(|p| p.len() == x.blocks * tile_bytes));
    let (low4, bit4, low8) = (_mm512_set1_epi8(15), _mm512_set1_epi8(16), _mm512_set1_epi32(0xff));
    let mut acc = [[_mm512_setzero_ps(); M]; T];
    for b in 0..x.blocks {
        let tile = panels.map(|panel| panel.as_ptr().wrapping_add(b * tile_bytes));
        let q = x.q.as_ptr().wrapping_add(b * M * 256);
        let mut isum = [[_mm512_setzero_si512(); M]; T];
        for half in 0..2 {
            // SAFETY: the scale words are inside the tile.
            let mut scales: [Int; T] = tile.map(|tile| unsafe { scales(tile, half) });
            for c in 2 * half..2 * half + 2 {
                if stream {
                    tile.into_iter().for_each(|tile| {
                        prefetch(tile.wrapping_add(c * tile_bytes / 4), PREFETCH, tile_bytes / 256)
                    });
                }
                let mut dots = [[[_mm512_setzero_si512(); 2]; M]; T];
                for i in 0..8 {
                    let mut w = [[_mm512_setzero_si512(); 2]; T];
                    for t in 0..T {
                        // SAFETY: word 8c + i of the 32 words of nibbles.
                        let v = unsafe { load(tile[t].wrapping_add(nibbles + (8 * c + i) * 64)) };
                        w[t] = [_mm512_and_si512(v, low4), _mm512_and_si512(_mm512_srli_epi16::<4>(v), low4)];
                        if FIVE {
                            // SAFETY: word i of the 8 words of fifth bits.
                            let v = unsafe { load(tile[t].wrapping_add(4 * 64 + i * 64)) };
                            for (j, w) in w[t].iter_mut().enumerate() {
                                // Bit 2c + j of each byte goes to bit 4, by a rotation of the word.
                                let turn = _mm512_set1_epi32(4 - 2 * c as i32 - j as i32);
                                let fifth = _mm512_rolv_epi32(v, turn);
                                *w = _mm512_ternarylogic_epi32::<0xf8>(*w, fifth, bit4); // w | fifth & bit4
                            }
                        }
                    }
                    for r in 0..M {
                        let a = q.wrapping_add(r * 256 + c * 64 + i * 4);
                        // SAFETY: sub-blocks 2c and 2c + 1 of row r in block b.
                        let a = unsafe { [broadcast(a), broadcast(a.wrapping_add(32))] };
                        for t in 0..T {
                            for j in 0..2 {
                                dots[t][r][j] = _mm512_dpbusd_epi32(dots[t][r][j], w[t][j], a[j]);
                            }
                        }
                    }
                }
                for t in 0..T {
                    let s = [
                        _mm512_and_si512(scales[t], low8),
                        _mm512_and_si512(_mm512_srli_epi32::<8>(scales[t]), low8),
                    ];
                    scales[t] = _mm512_srli_epi32::<16>(scales[t]);
                    for r in 0..M {
                        let scaled = [0, 1].map(|j| _mm512_mullo_epi32(dots[t][r][j], s[j]));
                        isum[t][r] = _mm512_add_epi32(isum[t][r], _mm512_add_epi32(scaled[0], scaled[1]));
                    }
                }
            }
        }
        for t in 0..T {
            // SAFETY: the head of the tile; the sums and scales of the M rows in block b.
            unsafe {
                let head = load(tile[t]);
                let (d, dmin) = (halves(head), halves(_mm512_srli_epi32::<16>(head)));
                let mut msum = [_mm512_setzero_si512(); M];
                for half in 0..2 {
                    let mins = mins(tile[t], half);
                    let pairs = [mins, _mm512_srli_epi16::<8>(mins)];
                    for (j, pairs) in pairs.into_iter().enumerate() {
                        let pairs = _mm512_and_si512(pairs, _mm512_set1_epi16(0xff));
                        for r in 0..M {
                            let sums = x.sums32.as_ptr().wrapping_add((b * M + r) * 8 + half * 4 + j * 2);
                            msum[r] = _mm512_dpwssd_epi32(msum[r], pairs, broadcast(sums));
                        }
                    }
                }
                for r in 0..M {
                    let sum = _mm512_mul_ps(d, _mm512_cvtepi32_ps(isum[t][r]));
                    let sum = S::sub(sum, dmin, _mm512_cvtepi32_ps(msum[r]));
                    let d_a = _mm512_set1_ps(*x.d.get_unchecked(b * M + r));
                    acc[t][r] = S::add(acc[t][r], sum, d_a);
                }
            }
        }
    }
    store(&acc, out);
}

/// `Q6_K`. Words of a tile: 32 of low nibbles, 16 of high pairs of bits, 4 of scales; then `d`.
///
/// # Safety
/// As [`Kernels::panels`](crate::simd::Kernels::panels); `x` has `M` rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
pub(super) unsafe fn q6k<S: Sums, const T: usize, const M: usize>(
    panels: [&[u8]; T],
    x: &Batch,
    stream: bool,
    out: &mut [PanelOutput; 2],
) {
    const TILE: usize = PANEL * 210;
    const HIGH: usize = 32 * 64;
    const SCALES: usize = 48 * 64;
    assert!(x.rows == M && panels.iter().all(|p| p.len() == x.blocks * TILE));
    let (low4, high2) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
    let mut acc = [[_mm512_setzero_ps(); M]; T];
    for b in 0..x.blocks {
        let tile = panels.map(|panel| panel.as_ptr().wrapping_add(b * TILE));
        let q = x.q.as_ptr().wrapping_add(b * M * 256);
        let mut isum = [[_mm512_setzero_si512(); M]; T];
        // 8 runs of 16 values and the 8 runs 64 values later, whose low bits are in the high nibbles of the same words.
        for run in 0..8 {
            let (half, part, quarter) = (run / 4, run / 2 % 2, run % 2);
            if stream {
                tile.into_iter().for_each(|tile| prefetch(tile.wrapping_add(run * (TILE / 8)), PREFETCH, 7));
            }
            let turns = [4 - 2 * part as i32, -2 * part as i32].map(|turn| _mm512_set1_epi32(turn));
            let mut dots = [[[_mm512_setzero_si512(); 2]; M]; T];
            for i in 4 * quarter..4 * quarter + 4 {
                let mut w = [[_mm512_setzero_si512(); 2]; T];
                for t in 0..T {
                    // SAFETY: one of 32 words of low nibbles, one of 16 words of high bits.
                    let (low, high) = unsafe {
                        let low = load(tile[t].wrapping_add((half * 16 + part * 8 + i) * 64));
                        (low, load(tile[t].wrapping_add(HIGH + (half * 8 + i) * 64)))
                    };
                    let low =
                        [_mm512_and_si512(low, low4), _mm512_and_si512(_mm512_srli_epi16::<4>(low), low4)];
                    for j in 0..2 {
                        let high = _mm512_rolv_epi32(high, turns[j]);
                        w[t][j] = _mm512_ternarylogic_epi32::<0xf8>(low[j], high, high2); // low | high & high2
                    }
                }
                for r in 0..M {
                    let a = q.wrapping_add(r * 256 + half * 128 + part * 32 + i * 4);
                    // SAFETY: inside half `half` of row r in block b.
                    let a = unsafe { [broadcast(a), broadcast(a.wrapping_add(64))] };
                    for t in 0..T {
                        for j in 0..2 {
                            dots[t][r][j] = _mm512_dpbusd_epi32(dots[t][r][j], w[t][j], a[j]);
                        }
                    }
                }
            }
            let byte = 2 * part + quarter; // of scale words 2·half and 2·half + 1
            for t in 0..T {
                for j in 0..2 {
                    // SAFETY: one of the four words of scales.
                    let word = unsafe { load(tile[t].wrapping_add(SCALES + (2 * half + j) * 64)) };
                    let up = _mm512_sllv_epi32(word, _mm512_set1_epi32(24 - 8 * byte as i32));
                    let scale = _mm512_srai_epi32::<24>(up);
                    for r in 0..M {
                        isum[t][r] = _mm512_add_epi32(isum[t][r], _mm512_mullo_epi32(dots[t][r][j], scale));
                    }
                }
            }
        }
        for t in 0..T {
            // SAFETY: the scales and `d` of the tile; the sums and scales of the M rows in block b.
            unsafe {
                // The weights are 32 less than their six bits say.
                let mut excess = [_mm512_setzero_si512(); M];
                for i in 0..4 {
                    let word = load(tile[t].wrapping_add(SCALES + i * 64));
                    let even = _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(word));
                    for (j, pairs) in [even, _mm512_srai_epi16::<8>(word)].into_iter().enumerate() {
                        for r in 0..M {
                            let sums = x.sums16.as_ptr().wrapping_add((b * M + r) * 16 + i * 4 + j * 2);
                            excess[r] = _mm512_dpwssd_epi32(excess[r], pairs, broadcast(sums));
                        }
                    }
                }
                let d = _mm512_cvtph_ps(_mm256_loadu_si256(tile[t].wrapping_add(52 * 64).cast()));
                for r in 0..M {
                    let isum = _mm512_sub_epi32(isum[t][r], _mm512_slli_epi32::<5>(excess[r]));
                    let d_a = _mm512_set1_ps(*x.d.get_unchecked(b * M + r));
                    acc[t][r] = S::add(acc[t][r], _mm512_mul_ps(d, _mm512_cvtepi32_ps(isum)), d_a);
                }
            }
        }
    }
    store(&acc, out);
}

/// Scales 4·half to 4·half + 3 of each row, a byte each. The layout is told at `blocks::read_scales_and_mins`.
///
/// # Safety
/// `tile` is a whole tile of `Q4_K` or `Q5_K`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
#[inline]
unsafe fn scales(tile: *const u8, half: usize) -> Int {
    // SAFETY: words 1 and 3 of a tile.
    let (first, last) = unsafe { (load(tile.wrapping_add(64)), load(tile.wrapping_add(3 * 64))) };
    six_bits(first, last, half)
}

/// Minima 4·half to 4·half + 3 of each row, a byte each.
///
/// # Safety
/// As [`scales`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
#[inline]
unsafe fn mins(tile: *const u8, half: usize) -> Int {
    // SAFETY: words 2 and 3 of a tile.
    let (first, last) = unsafe { (load(tile.wrapping_add(2 * 64)), load(tile.wrapping_add(3 * 64))) };
    six_bits(first, _mm512_srli_epi16::<4>(last), half)
}

/// Half 0: the low six bits of `first`; half 1: the low four of `last` and the high two of `first`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
#[inline]
fn six_bits(first: Int, last: Int, half: usize) -> Int {
    if half == 0 {
        return _mm512_and_si512(first, _mm512_set1_epi8(63));
    }
    let (low, high) = (_mm512_and_si512(last, _mm512_set1_epi8(15)), _mm512_srli_epi16::<2>(first));
    _mm512_ternarylogic_epi32::<0xf8>(low, high, _mm512_set1_epi8(0x30)) // low | high & 0x30
}

/// The f16 in the low half of each lane.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
#[inline]
fn halves(words: Int) -> __m512 {
    _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
#[inline]
pub(super) fn store<const T: usize, const M: usize>(acc: &[[__m512; M]; T], out: &mut [PanelOutput; 2]) {
    for (acc, out) in acc.iter().zip(out) {
        for (acc, out) in acc.iter().zip(out) {
            // SAFETY: `out` has 16 places.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), *acc) };
        }
    }
}
