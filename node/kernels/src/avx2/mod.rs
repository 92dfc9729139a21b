//! Kernels with AVX2 and F16C.
#![allow(
    clippy::needless_range_loop,
    reason = "indices name lanes, rows and panels of several arrays at once"
)]

mod float;
mod panel_32;
mod panel_k;
mod row_32;
mod row_k;
pub(crate) mod turns;

use core::arch::x86_64::*;

use crate::activations::Batch;
use crate::matrix::PANEL;
use crate::simd::{FloatOutput, Kernels, PanelOutput};
use crate::weight_type::WeightType;

pub(crate) struct Avx2;

impl Kernels for Avx2 {
    unsafe fn rows(ty: WeightType, rows: [&[u8]; 2], x: &Batch) -> [f32; 2] {
        // SAFETY: by the trait's contract.
        unsafe {
            match ty {
                WeightType::Q4K => turns::rows::<row_k::Q45k<false>>(rows, x),
                WeightType::Q5K => turns::rows::<row_k::Q45k<true>>(rows, x),
                WeightType::Q6K => turns::rows::<row_k::Q6k>(rows, x),
                WeightType::Q8_0 => row_32::q8_0(rows, x),
                WeightType::Q4_0 => row_32::q4_0(rows, x),
                // Other types never come here: `simd::rows` and `matmul::run_rows`.
                _ => [0.0; 2],
            }
        }
    }

    unsafe fn panels(ty: WeightType, panels: &[&[u8]], x: &Batch, stream: bool, out: &mut [PanelOutput; 2]) {
        // A register holds half a panel; the second half finds the weights in the cache.
        for (panel, out) in panels.iter().zip(out) {
            for side in 0..2 {
                // SAFETY: by the trait's contract.
                unsafe { half_panel(ty, panel, side, x, stream && side == 0, out) };
            }
        }
    }

    unsafe fn float(ty: WeightType, rows: &[&[u8]], x: &[&[f32]], out: &mut FloatOutput) {
        // SAFETY: by the trait's contract.
        unsafe { float::rows(ty, rows, x, out) }
    }
}

/// Rows `8·side..8·side + 8` of a panel.
///
/// # Safety
/// As [`Kernels::panels`].
unsafe fn half_panel(
    ty: WeightType,
    panel: &[u8],
    side: usize,
    x: &Batch,
    stream: bool,
    out: &mut PanelOutput,
) {
    macro_rules! by_rows {
        ($kernel:ident $(, $flag:literal)?) => {
            match x.rows {
                1 => $kernel::<$($flag,)? 1>(panel, side, x, stream, out),
                2 => $kernel::<$($flag,)? 2>(panel, side, x, stream, out),
                3 => $kernel::<$($flag,)? 3>(panel, side, x, stream, out),
                _ => $kernel::<$($flag,)? 4>(panel, side, x, stream, out),
            }
        };
    }
    use {panel_32::q4_0, panel_32::q8_0, panel_k::q6k, panel_k::q45k};
    // SAFETY: by this function's contract.
    unsafe {
        match ty {
            WeightType::Q4K => by_rows!(q45k, false),
            WeightType::Q5K => by_rows!(q45k, true),
            WeightType::Q6K => by_rows!(q6k),
            WeightType::Q8_0 => by_rows!(q8_0),
            WeightType::Q4_0 => by_rows!(q4_0),
            // As above.
            _ => {}
        }
    }
}

/// Adds the four lanes of each 128-bit lane of four vectors: lane i of the result's 128-bit lanes is the sum of vector i's.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn sum_fours(v: [__m256i; 4]) -> __m256i {
    _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]))
}

/// The sums of eight vectors.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn sum_eight(v: &[__m256i; 8]) -> __m256i {
    let (a, b) = (sum_fours([v[0], v[1], v[2], v[3]]), sum_fours([v[4], v[5], v[6], v[7]]));
    _mm256_add_epi32(_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x31>(a, b))
}

/// `sums[r]` to the outputs of one side of a panel.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn store<const M: usize>(sums: &[__m256; M], side: usize, out: &mut PanelOutput) {
    for (sums, out) in sums.iter().zip(out) {
        let places = &mut out[side * PANEL / 2..][..PANEL / 2];
        // SAFETY: eight places.
        unsafe { _mm256_storeu_ps(places.as_mut_ptr(), *sums) };
    }
}

/// Asks for `lines` cache lines, `ahead` bytes beyond `at`; they need not exist.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn prefetch(at: *const u8, ahead: usize, lines: usize) {
    for line in 0..lines {
        _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(ahead + 64 * line).cast());
    }
}

/// The 32 bytes at `at`.
///
/// # Safety
/// They are readable.
#[target_feature(enable = "avx2,f16c")]
#[inline]
unsafe fn load<T>(at: *const T) -> __m256i {
    // SAFETY: by this function's contract.
    unsafe { _mm256_loadu_si256(at.cast()) }
}

/// The four bytes at `at` in all lanes.
///
/// # Safety
/// They are readable.
#[target_feature(enable = "avx2,f16c")]
#[inline]
unsafe fn broadcast<T>(at: *const T) -> __m256i {
    // SAFETY: by this function's contract.
    _mm256_set1_epi32(unsafe { at.cast::<i32>().read_unaligned() })
}

/// The eight halves at `at`.
///
/// # Safety
/// They are readable.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(crate) unsafe fn halves<T>(at: *const T) -> __m256 {
    // SAFETY: by this function's contract.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(at.cast()) })
}

/// The f16 in the low half of each lane.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn low_halves(words: __m256i) -> __m256 {
    let words = _mm256_and_si256(words, _mm256_set1_epi32(0xffff));
    let packed = _mm256_packus_epi32(words, words);
    _mm256_cvtph_ps(_mm256_castsi256_si128(_mm256_permute4x64_epi64::<0x08>(packed)))
}
