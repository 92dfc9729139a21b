//! `Q8_0` and `Q4_0` as they lie in the file, one row times one row, 16 blocks at a time.

use core::arch::x86_64::*;

use super::sums::Sums;
use super::{add_lanes, prefetch, sum_fours};
use crate::activations::Batch;
use crate::simd::prefetch_of;

/// Blocks whose sums are finished together.
const TURN: usize = 16;

/// Of two rows, a lane for each of the blocks.
pub(super) type Terms = [[f32; TURN]; 2];

/// `Q8_0`. The weights are made unsigned by an offset of 128.
///
/// # Safety
/// As [`Kernels::rows`](crate::simd::Kernels::rows).
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
pub(super) unsafe fn q8_0<S: Sums>(rows: [&[u8]; 2], x: &Batch) -> [f32; 2] {
    let sign = _mm512_set1_epi8(-128);
    // SAFETY: `by_turns` gives two whole blocks.
    let pair = |p: *const u8| unsafe {
        let low = _mm256_loadu_si256(p.wrapping_add(2).cast());
        let high = _mm256_loadu_si256(p.wrapping_add(34 + 2).cast());
        _mm512_xor_si512(_mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high), sign)
    };
    // SAFETY: by this function's contract.
    unsafe { by_turns::<S, 34>(rows, x, pair, |sums8| _mm512_slli_epi32::<4>(sums8)) }
}

/// `Q4_0`. The weights are 8 less than their nibbles.
///
/// # Safety
/// As [`Kernels::rows`](crate::simd::Kernels::rows).
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
pub(super) unsafe fn q4_0<S: Sums>(rows: [&[u8]; 2], x: &Batch) -> [f32; 2] {
    let low4 = _mm512_set1_epi8(15);
    let shifts = _mm512_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4, 0, 0, 0, 0, 4, 4, 4, 4);
    // SAFETY: `by_turns` gives two whole blocks.
    let pair = |p: *const u8| unsafe {
        let low = _mm256_broadcastsi128_si256(_mm_loadu_si128(p.wrapping_add(2).cast()));
        let high = _mm256_broadcastsi128_si256(_mm_loadu_si128(p.wrapping_add(18 + 2).cast()));
        let both = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
        _mm512_and_si512(_mm512_srlv_epi32(both, shifts), low4)
    };
    // SAFETY: by this function's contract.
    unsafe { by_turns::<S, 18>(rows, x, pair, |sums8| sums8) }
}

/// `pair` unpacks two blocks of `SIZE` bytes to 64 unsigned weights, `offset` is what their offset has added, negated.
///
/// # Safety
/// As [`Kernels::rows`](crate::simd::Kernels::rows).
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
#[inline]
unsafe fn by_turns<S: Sums, const SIZE: usize>(
    rows: [&[u8]; 2],
    x: &Batch,
    pair: impl Fn(*const u8) -> __m512i + Copy,
    offset: impl Fn(__m512i) -> __m512i + Copy,
) -> [f32; 2] {
    assert!(x.rows == 1 && rows.iter().all(|row| row.len() == x.blocks * SIZE));
    let ahead = prefetch_of(2, rows[0].len());
    let whole = x.blocks / TURN * TURN;
    let mut acc: Terms = [[0.0; TURN]; 2];
    for b in (0..whole).step_by(TURN) {
        let mut terms: Terms = [[0.0; TURN]; 2];
        for (row, terms) in rows.iter().zip(&mut terms) {
            let p = row.as_ptr().wrapping_add(b * SIZE);
            prefetch(p, ahead, SIZE * TURN / 64 + 1);
            // SAFETY: 16 blocks from b on are inside the row and the activations.
            unsafe { *terms = turn::<SIZE>(p, &x.q[b * 32..], &x.sums8[b..], &x.d[b..], pair, offset) };
        }
        S::add_terms(&mut acc, &terms, TURN);
    }
    let rest = x.blocks - whole;
    if rest > 0 {
        // The last blocks in places of their own, filled up with zeros.
        let (mut blocks, mut q) = ([[0; SIZE]; TURN], [0; TURN * 32]);
        let (mut sums8, mut d) = ([0; TURN], [0.0; TURN]);
        q[..rest * 32].copy_from_slice(&x.q[whole * 32..]);
        sums8[..rest].copy_from_slice(&x.sums8[whole..]);
        d[..rest].copy_from_slice(&x.d[whole..]);
        let mut terms: Terms = [[0.0; TURN]; 2];
        for (row, terms) in rows.iter().zip(&mut terms) {
            blocks.as_flattened_mut()[..rest * SIZE].copy_from_slice(&row[whole * SIZE..]);
            // SAFETY: 16 blocks each.
            unsafe { *terms = turn::<SIZE>(blocks.as_ptr().cast(), &q, &sums8, &d, pair, offset) };
        }
        S::add_terms(&mut acc, &terms, rest);
    }
    acc.map(S::total)
}

/// The terms of 16 blocks.
///
/// # Safety
/// `p` and the slices are good for 16 blocks.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
#[inline]
unsafe fn turn<const SIZE: usize>(
    p: *const u8,
    q: &[i8],
    sums8: &[i32],
    d_a: &[f32],
    pair: impl Fn(*const u8) -> __m512i,
    offset: impl Fn(__m512i) -> __m512i,
) -> [f32; TURN] {
    let mut d = [0u16; TURN];
    for (i, d) in d.iter_mut().enumerate() {
        // SAFETY: the head of block i.
        *d = unsafe { p.wrapping_add(i * SIZE).cast::<u16>().read_unaligned() };
    }
    let dot = |i: usize| {
        // SAFETY: blocks 2i and 2i + 1.
        let a = unsafe { _mm512_loadu_si512(q.as_ptr().wrapping_add(64 * i).cast()) };
        _mm512_dpbusd_epi32(_mm512_setzero_si512(), pair(p.wrapping_add(2 * i * SIZE)), a)
    };
    let first = sum_fours([dot(0), dot(1), dot(2), dot(3)]);
    let last = sum_fours([dot(4), dot(5), dot(6), dot(7)]);
    // Even blocks, odd ones, …: 0 2 4 6, 1 3 5 7, 8 10 12 14, 9 11 13 15.
    let order = _mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
    let isum = _mm512_permutexvar_epi32(order, add_lanes(first, last));
    let mut terms = [0.0; TURN];
    // SAFETY: 16 sums, scales and places.
    unsafe {
        let isum = _mm512_add_epi32(isum, offset(_mm512_loadu_si512(sums8.as_ptr().cast())));
        let d = _mm512_cvtph_ps(_mm256_loadu_si256(d.as_ptr().cast()));
        let sum = _mm512_mul_ps(_mm512_mul_ps(d, _mm512_cvtepi32_ps(isum)), _mm512_loadu_ps(d_a.as_ptr()));
        _mm512_storeu_ps(terms.as_mut_ptr(), sum);
    }
    terms
}
