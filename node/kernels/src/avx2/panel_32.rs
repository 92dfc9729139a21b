//! `Q8_0` and `Q4_0`, packed: lane i of every vector is output i of the panel's side.

use core::arch::x86_64::*;

use super::{broadcast, halves, load, prefetch, store};
use crate::activations::Batch;
use crate::matrix::PANEL;
use crate::simd::{PREFETCH, PanelOutput};

/// `Q8_0`. A tile: 8 words of values, then `d`. The weights are made unsigned by giving their signs to the activations:
/// `128 · 127 · 2` is below 2¹⁵.
///
/// # Safety
/// As [`Kernels::panels`](crate::simd::Kernels::panels); `x` has `M` rows.
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn q8_0<const M: usize>(
    panel: &[u8],
    side: usize,
    x: &Batch,
    stream: bool,
    out: &mut PanelOutput,
) {
    const TILE: usize = PANEL * 34;
    assert!(x.rows == M && panel.len() == x.blocks * TILE);
    let ones = _mm256_set1_epi16(1);
    let mut acc = [_mm256_setzero_ps(); M];
    for b in 0..x.blocks {
        let tile = panel.as_ptr().wrapping_add(b * TILE);
        if stream {
            prefetch(tile, PREFETCH, TILE.div_ceil(64));
        }
        let mut isum = [_mm256_setzero_si256(); M];
        for i in 0..8 {
            // SAFETY: word i of 8; four of the 32 values of the M rows in block b.
            unsafe {
                let w = load(tile.wrapping_add(i * 64 + side * 32));
                let size = _mm256_abs_epi8(w);
                for r in 0..M {
                    let a = broadcast(x.q.as_ptr().wrapping_add((b * M + r) * 32 + i * 4));
                    let dot = _mm256_maddubs_epi16(size, _mm256_sign_epi8(a, w));
                    isum[r] = _mm256_add_epi32(isum[r], _mm256_madd_epi16(dot, ones));
                }
            }
        }
        // SAFETY: `d` follows the words.
        let d = unsafe { halves(tile.wrapping_add(8 * 64 + side * 16)) };
        for r in 0..M {
            let sum = _mm256_mul_ps(d, _mm256_cvtepi32_ps(isum[r]));
            acc[r] = _mm256_add_ps(acc[r], _mm256_mul_ps(sum, _mm256_set1_ps(x.d[b * M + r])));
        }
    }
    store(&acc, side, out);
}

/// `Q4_0`. A tile: 4 words of nibbles, then `d`. The weights are 8 less than their nibbles; `15 · 127 · 2 · 8` is below 2¹⁵.
///
/// # Safety
/// As [`Kernels::panels`](crate::simd::Kernels::panels); `x` has `M` rows.
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn q4_0<const M: usize>(
    panel: &[u8],
    side: usize,
    x: &Batch,
    stream: bool,
    out: &mut PanelOutput,
) {
    const TILE: usize = PANEL * 18;
    assert!(x.rows == M && panel.len() == x.blocks * TILE);
    let (low4, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
    let mut acc = [_mm256_setzero_ps(); M];
    for b in 0..x.blocks {
        let tile = panel.as_ptr().wrapping_add(b * TILE);
        if stream {
            prefetch(tile, PREFETCH, TILE.div_ceil(64));
        }
        let mut dots = [_mm256_setzero_si256(); M];
        for i in 0..4 {
            // SAFETY: word i of 4; four of the first and four of the last 16 values of the M rows in block b.
            unsafe {
                let v = load(tile.wrapping_add(i * 64 + side * 32));
                let w = [_mm256_and_si256(v, low4), _mm256_and_si256(_mm256_srli_epi16::<4>(v), low4)];
                for r in 0..M {
                    for j in 0..2 {
                        let a = broadcast(x.q.as_ptr().wrapping_add((b * M + r) * 32 + 16 * j + i * 4));
                        dots[r] = _mm256_add_epi16(dots[r], _mm256_maddubs_epi16(w[j], a));
                    }
                }
            }
        }
        // SAFETY: `d` follows the words.
        let d = unsafe { halves(tile.wrapping_add(4 * 64 + side * 16)) };
        for r in 0..M {
            let isum =
                _mm256_add_epi32(_mm256_madd_epi16(dots[r], ones), _mm256_set1_epi32(x.sums8[b * M + r]));
            let sum = _mm256_mul_ps(d, _mm256_cvtepi32_ps(isum));
            acc[r] = _mm256_add_ps(acc[r], _mm256_mul_ps(sum, _mm256_set1_ps(x.d[b * M + r])));
        }
    }
    store(&acc, side, out);
}
