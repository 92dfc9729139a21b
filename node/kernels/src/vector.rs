//! 16 lanes in the registers of one instruction set, for loops that the compiler does not vectorise by itself: those
//! that keep several sums. All sets give the same bits, for nothing is fused.

use crate::half::f16_to_f32;
use crate::lanes::{LANES, Lanes};

/// One value per lane.
pub(crate) trait Vector: Copy {
    /// # Safety
    /// The processor has the instructions of this type; so for all functions here.
    unsafe fn load(values: &Lanes) -> Self;
    /// Half precision, widened.
    ///
    /// # Safety
    /// See [`Vector::load`].
    unsafe fn load_half(values: &[u16; LANES]) -> Self;
    /// # Safety
    /// See [`Vector::load`].
    unsafe fn splat(value: f32) -> Self;
    /// # Safety
    /// See [`Vector::load`].
    unsafe fn store(self, to: &mut Lanes);
    /// `self + a * b`, rounded twice.
    ///
    /// # Safety
    /// See [`Vector::load`].
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
}

/// What the compiler's target has.
#[derive(Clone, Copy)]
pub(crate) struct Baseline(Lanes);

impl Vector for Baseline {
    #[inline(always)]
    unsafe fn load(values: &Lanes) -> Self {
        Self(*values)
    }

    #[inline(always)]
    unsafe fn load_half(values: &[u16; LANES]) -> Self {
        Self(values.map(f16_to_f32))
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    unsafe fn store(self, to: &mut Lanes) {
        *to = self.0;
    }

    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane] + a.0[lane] * b.0[lane]))
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::*;

    use super::{LANES, Lanes, Vector};

    /// AVX2 and F16C.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(__m256, __m256);

    impl Vector for Avx2 {
        #[inline(always)]
        unsafe fn load(values: &Lanes) -> Self {
            let at = values.as_ptr();
            // SAFETY: 16 values are there; the caller has the instructions.
            unsafe { Self(_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8))) }
        }

        #[inline(always)]
        unsafe fn load_half(values: &[u16; LANES]) -> Self {
            let at = values.as_ptr().cast::<__m128i>();
            // SAFETY: 16 halves are there, twice 16 bytes; the caller has the instructions.
            unsafe { Self(_mm256_cvtph_ps(_mm_loadu_si128(at)), _mm256_cvtph_ps(_mm_loadu_si128(at.add(1)))) }
        }

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: the caller has the instructions.
            let all = unsafe { _mm256_set1_ps(value) };
            Self(all, all)
        }

        #[inline(always)]
        unsafe fn store(self, to: &mut Lanes) {
            let at = to.as_mut_ptr();
            // SAFETY: there is room for 16 values; the caller has the instructions.
            unsafe {
                _mm256_storeu_ps(at, self.0);
                _mm256_storeu_ps(at.add(8), self.1);
            }
        }

        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: the caller has the instructions.
            unsafe {
                Self(
                    _mm256_add_ps(self.0, _mm256_mul_ps(a.0, b.0)),
                    _mm256_add_ps(self.1, _mm256_mul_ps(a.1, b.1)),
                )
            }
        }
    }

    /// AVX-512 F.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512(__m512);

    impl Vector for Avx512 {
        #[inline(always)]
        unsafe fn load(values: &Lanes) -> Self {
            // SAFETY: 16 values are there; the caller has the instructions.
            Self(unsafe { _mm512_loadu_ps(values.as_ptr()) })
        }

        #[inline(always)]
        unsafe fn load_half(values: &[u16; LANES]) -> Self {
            // SAFETY: 16 halves are there, 32 bytes; the caller has the instructions.
            Self(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(values.as_ptr().cast())) })
        }

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: the caller has the instructions.
            Self(unsafe { _mm512_set1_ps(value) })
        }

        #[inline(always)]
        unsafe fn store(self, to: &mut Lanes) {
            // SAFETY: there is room for 16 values; the caller has the instructions.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
        }

        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: the caller has the instructions.
            Self(unsafe { _mm512_add_ps(self.0, _mm512_mul_ps(a.0, b.0)) })
        }
    }
}
