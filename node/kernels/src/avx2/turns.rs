//! Raw rows of K-quants, eight superblocks at a time: what the kernels of AVX2 and AVX-512 share.
//!
//! ```text
//! heads     scales, minima and `d` of eight superblocks, taken apart together
//! terms     eight vectors of partial integers, summed by transposition, times d   (each instruction set its own)
//! rows      the terms of two rows, added in order: while one waits for its sum, the other goes on
//! ```

use core::arch::x86_64::*;

use super::{load, low_halves, sum_fours};
use crate::activations::Batch;
use crate::simd::prefetch_of;

/// Superblocks whose sums are finished together.
pub(crate) const TURN: usize = 8;

/// The kernel of one type.
pub(crate) trait Terms {
    /// Bytes of a superblock.
    const SIZE: usize;

    /// The terms of superblocks `first..first + count` of a row and of `x`, yet without the scale of the activations; the lanes
    /// of those that are missing are undefined. `FULL`: there are eight. Weights are asked for `ahead` bytes ahead.
    ///
    /// # Safety
    /// The processor has the instructions; `row` and `x`, of one row, have these superblocks, at least one.
    unsafe fn terms<const FULL: bool>(
        row: *const u8,
        x: &Batch,
        first: usize,
        count: usize,
        ahead: usize,
    ) -> __m256;
}

/// Two rows times the one row of `x`.
///
/// # Safety
/// As [`Kernels::rows`](crate::simd::Kernels::rows).
#[target_feature(enable = "avx2,f16c")]
pub(crate) unsafe fn rows<K: Terms>(rows: [&[u8]; 2], x: &Batch) -> [f32; 2] {
    assert!(x.rows == 1 && rows.iter().all(|row| row.len() == x.blocks * K::SIZE));
    let (ahead, [a, b]) = (prefetch_of(2, rows[0].len()), rows.map(<[u8]>::as_ptr));
    let mut acc = [0.0; 2];
    let whole = x.blocks / TURN * TURN;
    for first in (0..whole).step_by(TURN) {
        // SAFETY: both rows and `x` have these superblocks.
        unsafe {
            let terms =
                [K::terms::<true>(a, x, first, TURN, ahead), K::terms::<true>(b, x, first, TURN, ahead)];
            let d_a = _mm256_loadu_ps(x.d.as_ptr().wrapping_add(first));
            add_terms(&mut acc, terms, d_a, TURN);
        }
    }
    let rest = x.blocks - whole;
    if rest > 0 {
        let mut scales = [0.0; TURN];
        scales[..rest].copy_from_slice(&x.d[whole..]);
        // SAFETY: as above.
        unsafe {
            let terms =
                [K::terms::<false>(a, x, whole, rest, ahead), K::terms::<false>(b, x, whole, rest, ahead)];
            add_terms(&mut acc, terms, _mm256_loadu_ps(scales.as_ptr()), rest);
        }
    }
    acc
}

/// Adds the first `count` of `terms · d_a` in order to the sums of two rows.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(super) fn add_terms(acc: &mut [f32; 2], terms: [__m256; 2], d_a: __m256, count: usize) {
    let mut lanes = [[0.0; TURN]; 2];
    for (lanes, terms) in lanes.iter_mut().zip(terms) {
        // SAFETY: eight places.
        unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), _mm256_mul_ps(terms, d_a)) };
    }
    for i in 0..count {
        acc[0] += lanes[0][i];
        acc[1] += lanes[1][i];
    }
}

/// What comes before the weights, of eight superblocks; lane i belongs to the i-th.
pub(crate) struct Heads {
    pub d: __m256,
    pub dmin: __m256,
    /// The scales of the sub-blocks.
    pub scales: [[i16; 8]; TURN],
    /// The sums of the minima with the activations.
    pub msum: __m256i,
}

/// Reads superblocks `first..first + count` of a row of blocks of `size` bytes; the lanes of those that are missing are undefined.
///
/// # Safety
/// `row` and `x`, of one row, have these blocks, of which there are one to eight.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(crate) unsafe fn heads(row: *const u8, size: usize, x: &Batch, first: usize, count: usize) -> Heads {
    // `{ f16 d; f16 dmin; u8 scales[12] }` of blocks i and i + 4.
    let two = |i: usize| {
        let head = |i: usize| row.wrapping_add((first + i.min(count - 1)) * size).cast();
        // SAFETY: by this function's contract.
        unsafe { _mm256_set_m128i(_mm_loadu_si128(head(i + 4)), _mm_loadu_si128(head(i))) }
    };
    let (a, b, c, d) = (two(0), two(1), two(2), two(3));
    let (ab, cd) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
    let (ab2, cd2) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
    let halves = _mm256_unpacklo_epi64(ab, cd);
    let (s0, s1) = (_mm256_unpackhi_epi64(ab, cd), _mm256_unpacklo_epi64(ab2, cd2));
    let s2 = _mm256_unpackhi_epi64(ab2, cd2);

    let mut scales = [[0; 8]; TURN];
    for (i, pair) in bytes_to_words(six_bits(s0, s2)).into_iter().enumerate() {
        // SAFETY: scales of blocks 2i and 2i + 1.
        unsafe { _mm256_storeu_si256(scales[2 * i..].as_mut_ptr().cast(), pair) };
    }
    let [lower, upper] = six_bits(s1, _mm256_srli_epi16::<4>(s2));
    let mins = bytes_to_words([pair_order(lower), pair_order(upper)]);
    let mut last = [0i16; 8 * TURN];
    let sums = if count == TURN {
        x.sums32[first * 8..].as_ptr()
    } else {
        last[..count * 8].copy_from_slice(&x.sums32[first * 8..(first + count) * 8]);
        last.as_ptr()
    };
    // SAFETY: eight times eight sums, from one place or the other.
    let dot = |i: usize| unsafe { _mm256_madd_epi16(mins[i], load(sums.wrapping_add(16 * i))) };
    let msum = sum_fours([dot(0), dot(1), dot(2), dot(3)]); // 0 2 4 6, 1 3 5 7
    Heads {
        d: low_halves(halves),
        dmin: low_halves(_mm256_srli_epi32::<16>(halves)),
        scales,
        msum: _mm256_permutevar8x32_epi32(msum, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)),
    }
}

/// `blocks::six_bits` of eight superblocks: the lower four bytes and the upper four.
#[target_feature(enable = "avx2")]
#[inline]
fn six_bits(first: __m256i, last: __m256i) -> [__m256i; 2] {
    let high = _mm256_and_si256(_mm256_srli_epi16::<2>(first), _mm256_set1_epi8(0x30));
    let upper = _mm256_or_si256(_mm256_and_si256(last, _mm256_set1_epi8(15)), high);
    [_mm256_and_si256(first, _mm256_set1_epi8(63)), upper]
}

/// The order of the activations' sums (`PAIRS`), in each four bytes.
#[target_feature(enable = "avx2")]
#[inline]
fn pair_order(bytes: __m256i) -> __m256i {
    let order = _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
    _mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(order))
}

/// Lower and upper four bytes of eight superblocks to eight words of each, two superblocks a vector.
#[target_feature(enable = "avx2")]
#[inline]
fn bytes_to_words([lower, upper]: [__m256i; 2]) -> [__m256i; 4] {
    let a = _mm256_unpacklo_epi32(lower, upper); // 0 1, 4 5
    let b = _mm256_unpackhi_epi32(lower, upper); // 2 3, 6 7
    [
        _mm256_cvtepu8_epi16(_mm256_castsi256_si128(a)),
        _mm256_cvtepu8_epi16(_mm256_castsi256_si128(b)),
        _mm256_cvtepu8_epi16(_mm256_extracti128_si256::<1>(a)),
        _mm256_cvtepu8_epi16(_mm256_extracti128_si256::<1>(b)),
    ]
}
