//! How the kernels add up: as the contract in [`crate::numerics`] says, or fused and in whatever order is fastest.
//!
//! The second is a yardstick: `shardctl bench engine` tells by it what the contract costs.

use core::arch::x86_64::*;

use super::row_32;
use super::row_k::{Blocks, Parts};
use crate::activations::Batch;
use crate::avx2::turns::{self, TURN, Terms};
use crate::simd::prefetch_of;

/// A way to add up.
pub(crate) trait Sums {
    /// `sum + a · b`.
    ///
    /// # Safety
    /// The processor has AVX-512; so for all functions here.
    unsafe fn add(sum: __m512, a: __m512, b: __m512) -> __m512;
    /// `sum - a · b`.
    ///
    /// # Safety
    /// See [`Sums::add`].
    unsafe fn sub(sum: __m512, a: __m512, b: __m512) -> __m512;
    /// Two raw rows of a K-quant.
    ///
    /// # Safety
    /// As [`Kernels::rows`](crate::simd::Kernels::rows).
    unsafe fn rows_k<K: Terms + Parts>(rows: [&[u8]; 2], x: &Batch) -> [f32; 2];
    /// The first `count` of the terms of 16 blocks, added to the sums of two rows.
    fn add_terms(acc: &mut row_32::Terms, terms: &row_32::Terms, count: usize);
    /// What has been added to the lanes of one row.
    fn total(lanes: [f32; 16]) -> f32;
}

/// As the contract says.
pub(crate) struct InOrder;

impl Sums for InOrder {
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn add(sum: __m512, a: __m512, b: __m512) -> __m512 {
        _mm512_add_ps(sum, _mm512_mul_ps(a, b))
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn sub(sum: __m512, a: __m512, b: __m512) -> __m512 {
        _mm512_sub_ps(sum, _mm512_mul_ps(a, b))
    }

    unsafe fn rows_k<K: Terms + Parts>(rows: [&[u8]; 2], x: &Batch) -> [f32; 2] {
        // SAFETY: by this function's contract.
        unsafe { turns::rows::<K>(rows, x) }
    }

    #[inline(always)]
    fn add_terms(acc: &mut row_32::Terms, terms: &row_32::Terms, count: usize) {
        for i in 0..count {
            acc[0][0] += terms[0][i];
            acc[1][0] += terms[1][i];
        }
    }

    #[inline(always)]
    fn total(lanes: [f32; 16]) -> f32 {
        lanes[0]
    }
}

/// As fast as can be.
pub(crate) struct Free;

impl Sums for Free {
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn add(sum: __m512, a: __m512, b: __m512) -> __m512 {
        _mm512_fmadd_ps(a, b, sum)
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn sub(sum: __m512, a: __m512, b: __m512) -> __m512 {
        _mm512_fnmadd_ps(a, b, sum)
    }

    /// The lanes of a superblock's integers are never summed up: each goes into a sum of its own.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
    unsafe fn rows_k<K: Terms + Parts>(rows: [&[u8]; 2], x: &Batch) -> [f32; 2] {
        assert!(x.rows == 1 && rows.iter().all(|row| row.len() == x.blocks * <K as Terms>::SIZE));
        let ahead = prefetch_of(2, rows[0].len());
        let mut acc = [_mm512_setzero_ps(); 2];
        let mut minus = [_mm256_setzero_ps(); 2];
        for first in (0..x.blocks).step_by(TURN) {
            let count = TURN.min(x.blocks - first);
            let some = (1u16 << count) as u8;
            // SAFETY: both rows and `x` have these superblocks.
            unsafe {
                let d_a = _mm256_maskz_loadu_ps(some.wrapping_sub(1), x.d.as_ptr().wrapping_add(first));
                for r in 0..2 {
                    let row = rows[r].as_ptr();
                    let Blocks { parts, d, less } = match count {
                        TURN => K::parts::<true>(row, x, first, TURN, ahead),
                        _ => K::parts::<false>(row, x, first, count, ahead),
                    };
                    let mut scales = [0.0; TURN];
                    _mm256_storeu_ps(scales.as_mut_ptr(), _mm256_mul_ps(d, d_a));
                    for i in 0..count {
                        acc[r] =
                            _mm512_fmadd_ps(_mm512_set1_ps(scales[i]), _mm512_cvtepi32_ps(parts[i]), acc[r]);
                    }
                    minus[r] = _mm256_add_ps(minus[r], _mm256_mul_ps(less, d_a));
                }
            }
        }
        let total = |r: usize| _mm512_reduce_add_ps(_mm512_sub_ps(acc[r], _mm512_zextps256_ps512(minus[r])));
        [total(0), total(1)]
    }

    #[inline(always)]
    fn add_terms(acc: &mut row_32::Terms, terms: &row_32::Terms, _: usize) {
        for (acc, terms) in acc.iter_mut().zip(terms) {
            acc.iter_mut().zip(terms).for_each(|(acc, term)| *acc += term);
        }
    }

    #[inline(always)]
    fn total(lanes: [f32; 16]) -> f32 {
        lanes.iter().sum()
    }
}
