//! `Q8_0` and `Q4_0`, packed: lane i of every vector is output i of the panel.

use core::arch::x86_64::*;

use super::panel_k::store;
use super::sums::Sums;
use super::{broadcast, load, prefetch};
use crate::activations::Batch;
use crate::matrix::PANEL;
use crate::simd::{PREFETCH, PanelOutput};

/// `Q8_0`. A tile: 8 words of values, then `d`. The weights are made unsigned by an offset of 128.
///
/// # Safety
/// As [`Kernels::panels`](crate::simd::Kernels::panels); `x` has `M` rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
pub(super) unsafe fn q8_0<S: Sums, const T: usize, const M: usize>(
    panels: [&[u8]; T],
    x: &Batch,
    stream: bool,
    out: &mut [PanelOutput; 2],
) {
    const TILE: usize = PANEL * 34;
    assert!(x.rows == M && panels.iter().all(|p| p.len() == x.blocks * TILE));
    let sign = _mm512_set1_epi8(-128);
    let mut acc = [[_mm512_setzero_ps(); M]; T];
    for b in 0..x.blocks {
        let tile = panels.map(|panel| panel.as_ptr().wrapping_add(b * TILE));
        if stream {
            tile.into_iter().for_each(|tile| prefetch(tile, PREFETCH, TILE.div_ceil(64)));
        }
        let mut isum = [[_mm512_setzero_si512(); M]; T];
        for r in 0..M {
            // SAFETY: the sum of row r in block b.
            let offset =
                _mm512_slli_epi32::<4>(unsafe { broadcast(x.sums8.as_ptr().wrapping_add(b * M + r)) });
            isum.iter_mut().for_each(|isum| isum[r] = offset);
        }
        for i in 0..8 {
            // SAFETY: word i of 8.
            let w = tile.map(|tile| _mm512_xor_si512(unsafe { load(tile.wrapping_add(i * 64)) }, sign));
            for r in 0..M {
                // SAFETY: four of the 32 values of row r in block b.
                let a = unsafe { broadcast(x.q.as_ptr().wrapping_add((b * M + r) * 32 + i * 4)) };
                for t in 0..T {
                    isum[t][r] = _mm512_dpbusd_epi32(isum[t][r], w[t], a);
                }
            }
        }
        // SAFETY: `d` follows the words; scale of the M rows in block b.
        unsafe { add_block::<S, T, M>(&mut acc, &isum, tile.map(|tile| tile.wrapping_add(8 * 64)), x, b) };
    }
    store(&acc, out);
}

/// `Q4_0`. A tile: 4 words of nibbles, then `d`. The weights are 8 less than their nibbles.
///
/// # Safety
/// As [`Kernels::panels`](crate::simd::Kernels::panels); `x` has `M` rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
pub(super) unsafe fn q4_0<S: Sums, const T: usize, const M: usize>(
    panels: [&[u8]; T],
    x: &Batch,
    stream: bool,
    out: &mut [PanelOutput; 2],
) {
    const TILE: usize = PANEL * 18;
    assert!(x.rows == M && panels.iter().all(|p| p.len() == x.blocks * TILE));
    let low4 = _mm512_set1_epi8(15);
    let mut acc = [[_mm512_setzero_ps(); M]; T];
    for b in 0..x.blocks {
        let tile = panels.map(|panel| panel.as_ptr().wrapping_add(b * TILE));
        if stream {
            tile.into_iter().for_each(|tile| prefetch(tile, PREFETCH, TILE.div_ceil(64)));
        }
        let mut isum = [[_mm512_setzero_si512(); M]; T];
        for r in 0..M {
            // SAFETY: the sum of row r in block b.
            let offset = unsafe { broadcast(x.sums8.as_ptr().wrapping_add(b * M + r)) };
            isum.iter_mut().for_each(|isum| isum[r] = offset);
        }
        for i in 0..4 {
            let w = tile.map(|tile| {
                // SAFETY: word i of 4.
                let v = unsafe { load(tile.wrapping_add(i * 64)) };
                [_mm512_and_si512(v, low4), _mm512_and_si512(_mm512_srli_epi16::<4>(v), low4)]
            });
            for r in 0..M {
                let a = x.q.as_ptr().wrapping_add((b * M + r) * 32 + i * 4);
                // SAFETY: four of the first and four of the last 16 values of row r in block b.
                let a = unsafe { [broadcast(a), broadcast(a.wrapping_add(16))] };
                for t in 0..T {
                    isum[t][r] = _mm512_dpbusd_epi32(isum[t][r], w[t][0], a[0]);
                    isum[t][r] = _mm512_dpbusd_epi32(isum[t][r], w[t][1], a[1]);
                }
            }
        }
        // SAFETY: `d` follows the words; scale of the M rows in block b.
        unsafe { add_block::<S, T, M>(&mut acc, &isum, tile.map(|tile| tile.wrapping_add(4 * 64)), x, b) };
    }
    store(&acc, out);
}

/// # Safety
/// `d` points to 16 halves each; `x` has a block `b`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
#[inline]
unsafe fn add_block<S: Sums, const T: usize, const M: usize>(
    acc: &mut [[__m512; M]; T],
    isum: &[[__m512i; M]; T],
    d: [*const u8; T],
    x: &Batch,
    b: usize,
) {
    for t in 0..T {
        // SAFETY: by this function's contract.
        let d = _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(d[t].cast()) });
        for r in 0..M {
            // SAFETY: by this function's contract.
            let d_a = _mm512_set1_ps(unsafe { *x.d.get_unchecked(b * M + r) });
            let sum = _mm512_mul_ps(d, _mm512_cvtepi32_ps(isum[t][r]));
            // SAFETY: this function has AVX-512.
            acc[t][r] = unsafe { S::add(acc[t][r], sum, d_a) };
        }
    }
}
