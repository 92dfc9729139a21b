//! The driver: several matrices that share one input, side by side, in one region of the pool.

use std::fmt;
use std::ops::Range;

use crate::activations::Activations;
#[cfg(target_arch = "x86_64")]
use crate::avx2::Avx2;
#[cfg(target_arch = "x86_64")]
use crate::avx512::{Avx512, Free};
use crate::isa::{self, Isa};
use crate::matrix::Matrix;
use crate::pool::{Pool, Shareable};
use crate::scalar;
#[cfg(target_arch = "x86_64")]
use crate::simd;

/// Why a product has no meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MatmulError {
    /// A matrix has another width than the input.
    Columns {
        /// Inputs of the matrix.
        weights: usize,
        /// Values of an input row.
        input: usize,
    },
    /// The output has not `rows · (sum of the matrices' rows)` places.
    Output {
        /// Places needed.
        expected: usize,
        /// Places given.
        actual: usize,
    },
}

impl fmt::Display for MatmulError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Columns { weights, input } => {
                write!(f, "a matrix of {weights} inputs met rows of {input} values")
            }
            Self::Output { expected, actual } => {
                write!(f, "the product has {expected} outputs, not {actual}")
            }
        }
    }
}

impl std::error::Error for MatmulError {}

/// `out[r][..] = weights[0] · x[r], weights[1] · x[r], …` for every row `r` of `x`; `out` is `[rows][sum of the matrices' rows]`.
///
/// The bits of an output depend on its weight row and its activation row only ([`crate::numerics`]).
pub fn matmul(
    pool: &Pool,
    weights: &[&Matrix],
    x: &mut Activations,
    out: &mut [f32],
) -> Result<(), MatmulError> {
    matmul_on(isa::current(), pool, weights, x, out)
}

/// [`matmul`] with kernels of a lower tier than the machine has, for tests and benchmarks.
pub fn matmul_on(
    isa: Isa,
    pool: &Pool,
    weights: &[&Matrix],
    x: &mut Activations,
    out: &mut [f32],
) -> Result<(), MatmulError> {
    let isa = isa.min(Isa::detect());
    product(pool, weights, x, out, |w, x, rows, out| run_rows(isa, w, x, rows, out))
}

/// [`matmul`] with sums that are fused and in the fastest order, which breaks the contract: for benchmarks, which tell by it
/// what the contract costs. False, and nothing is computed, where there are no such kernels: they need AVX-512, and a type
/// with kernels of its own.
pub fn matmul_free(
    pool: &Pool,
    weights: &[&Matrix],
    x: &mut Activations,
    out: &mut [f32],
) -> Result<bool, MatmulError> {
    #[cfg(target_arch = "x86_64")]
    if Isa::detect() >= Isa::Avx512 && weights.iter().all(|w| w.weight_type().is_fast()) {
        // SAFETY: the processor has AVX-512, and `product` has checked the widths.
        product(pool, weights, x, out, |w, x, rows, out| unsafe {
            simd::rows::<Avx512<Free>>(w, x, rows, out)
        })?;
        return Ok(true);
    }
    let _ = (pool, weights, x, out);
    Ok(false)
}

fn product(
    pool: &Pool,
    weights: &[&Matrix],
    x: &mut Activations,
    out: &mut [f32],
    run_rows: impl Fn(&Matrix, &Activations, Range<usize>, &Output) + Sync,
) -> Result<(), MatmulError> {
    if let Some(w) = weights.iter().find(|w| w.cols() != x.cols()) {
        return Err(MatmulError::Columns { weights: w.cols(), input: x.cols() });
    }
    let width: usize = weights.iter().map(|w| w.rows()).sum();
    let expected = x.rows() * width;
    if out.len() != expected {
        return Err(MatmulError::Output { expected, actual: out.len() });
    }
    for w in weights {
        x.prepare(pool, w.weight_type().family());
    }
    let (x, chunk) = (&*x, chunk_rows(width, pool.threads()));
    let chunks: Vec<usize> = weights.iter().map(|w| w.rows().div_ceil(chunk)).collect();
    let out = Shareable::new(out.as_mut_ptr());
    pool.run(chunks.iter().sum(), |mut i| {
        let mut column = 0;
        for (w, &chunks) in weights.iter().zip(&chunks) {
            if i < chunks {
                let rows = i * chunk..((i + 1) * chunk).min(w.rows());
                return run_rows(w, x, rows, &Output { at: out.get().wrapping_add(column), width });
            }
            i -= chunks;
            column += w.rows();
        }
    });
    Ok(())
}

fn run_rows(isa: Isa, w: &Matrix, x: &Activations, rows: Range<usize>, out: &Output) {
    match isa {
        _ if !w.weight_type().is_fast() => scalar::wide_rows(w, x, rows, out),
        // SAFETY: `matmul_on` checked the widths and that the processor has this tier.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { simd::rows::<Avx512>(w, x, rows, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { simd::rows::<Avx2>(w, x, rows, out) },
        _ => scalar::rows(w, x, rows, out),
    }
}

/// Weight rows of one chunk, a multiple of two panels: a few chunks a thread, so that one that is held up loses little, and
/// long enough for the memory's prefetchers.
fn chunk_rows(width: usize, threads: usize) -> usize {
    width.div_ceil(threads * 4).next_multiple_of(32).clamp(32, 512)
}

/// Where the outputs of one matrix go: row `r`, output `n` at `at + r · width + n`.
pub(crate) struct Output {
    at: *mut f32,
    width: usize,
}

impl Output {
    #[inline]
    pub(crate) fn set(&self, row: usize, n: usize, value: f32) {
        // SAFETY: `matmul_on` checked that `out` holds every row and output, and no other chunk has this one.
        unsafe { *self.at.add(row * self.width + n) = value }
    }
}
