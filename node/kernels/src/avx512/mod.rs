//! Kernels with AVX-512 (F, BW, VL, DQ, VNNI).
#![allow(
    clippy::needless_range_loop,
    reason = "indices name lanes, rows and panels of several arrays at once"
)]

mod float;
mod panel_32;
mod panel_k;
mod row_32;
mod row_k;
mod sums;

use core::arch::x86_64::*;
use std::marker::PhantomData;

use crate::activations::Batch;
use crate::simd::{FloatOutput, Kernels, PanelOutput};
use crate::weight_type::WeightType;

pub(crate) use sums::{Free, InOrder, Sums};

/// The kernels that add up in this way.
pub(crate) struct Avx512<S = InOrder>(PhantomData<S>);

impl<S: Sums> Kernels for Avx512<S> {
    unsafe fn rows(ty: WeightType, rows: [&[u8]; 2], x: &Batch) -> [f32; 2] {
        // SAFETY: by the trait's contract.
        unsafe {
            match ty {
                WeightType::Q4K => S::rows_k::<row_k::Q45k<false>>(rows, x),
                WeightType::Q5K => S::rows_k::<row_k::Q45k<true>>(rows, x),
                WeightType::Q6K => S::rows_k::<row_k::Q6k>(rows, x),
                WeightType::Q8_0 => row_32::q8_0::<S>(rows, x),
                WeightType::Q4_0 => row_32::q4_0::<S>(rows, x),
                // Other types never come here: `simd::rows` and `matmul::run_rows`.
                _ => [0.0; 2],
            }
        }
    }

    unsafe fn panels(ty: WeightType, panels: &[&[u8]], x: &Batch, stream: bool, out: &mut [PanelOutput; 2]) {
        // SAFETY: by the trait's contract.
        unsafe {
            match panels {
                [a, b] => panels_of::<S, 2>([a, b], ty, x, stream, out),
                [a] => panels_of::<S, 1>([a], ty, x, stream, out),
                _ => {}
            }
        }
    }

    unsafe fn float(ty: WeightType, rows: &[&[u8]], x: &[&[f32]], out: &mut FloatOutput) {
        // SAFETY: by the trait's contract.
        unsafe { float::rows::<S>(ty, rows, x, out) }
    }
}

/// # Safety
/// As [`Kernels::panels`].
unsafe fn panels_of<S: Sums, const T: usize>(
    panels: [&[u8]; T],
    ty: WeightType,
    x: &Batch,
    stream: bool,
    out: &mut [PanelOutput; 2],
) {
    macro_rules! by_rows {
        ($kernel:ident $(, $flag:literal)?) => {
            match x.rows {
                1 => $kernel::<S, $($flag,)? T, 1>(panels, x, stream, out),
                2 => $kernel::<S, $($flag,)? T, 2>(panels, x, stream, out),
                3 => $kernel::<S, $($flag,)? T, 3>(panels, x, stream, out),
                _ => $kernel::<S, $($flag,)? T, 4>(panels, x, stream, out),
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
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
#[inline]
fn sum_fours(v: [__m512i; 4]) -> __m512i {
    let a = _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
    let b = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
    _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b))
}

/// Adds neighbouring 128-bit lanes: `[a0 + a1, a2 + a3, b0 + b1, b2 + b3]`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
#[inline]
fn add_lanes(a: __m512i, b: __m512i) -> __m512i {
    _mm512_add_epi32(_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b))
}

/// Asks for `lines` cache lines, `ahead` bytes beyond `at`; they need not exist.
#[target_feature(enable = "avx512f")]
#[inline]
fn prefetch(at: *const u8, ahead: usize, lines: usize) {
    for line in 0..lines {
        _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(ahead + 64 * line).cast());
    }
}

/// The 64 bytes at `at`.
///
/// # Safety
/// They are readable.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn load(at: *const u8) -> __m512i {
    // SAFETY: by this function's contract.
    unsafe { _mm512_loadu_si512(at.cast()) }
}

/// The four bytes at `at` in all lanes.
///
/// # Safety
/// They are readable.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn broadcast<T>(at: *const T) -> __m512i {
    // SAFETY: by this function's contract.
    _mm512_set1_epi32(unsafe { at.cast::<i32>().read_unaligned() })
}
