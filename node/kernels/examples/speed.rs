//! Prints what the kernels reach: `cargo run --release -p shard-kernels --example speed [threads] [type] [isa]`.
//!
//! GB/s of raw weight bytes for one to eight rows of activations (decode), GFLOP/s for more (prefill); the matrices together
//! are larger than the caches.

use std::hint::black_box;
use std::time::{Duration, Instant};

use shard_kernels::isa::Isa;
use shard_kernels::{Activations, Matrix, MatrixError, Pool, WeightType, matmul_on};

const COLS: usize = 2048;
const ROWS: usize = 5632;
const BYTES: usize = 60 << 20;
/// Fewer rows of weights and more passes where arithmetic is the bound: a pass shall not outlast a time slice.
const ROWS_OF_MANY: usize = 256;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let wanted =
        |i: usize, name: &str| args.get(i).is_none_or(|arg| arg == "all" || name.eq_ignore_ascii_case(arg));
    let pool = Pool::new(args.first().map_or(Ok(1), |arg| arg.parse())?);
    let sizes = [1, 2, 4, 8, 16, 64, 512];
    println!("{} thread(s), {ROWS} x {COLS}; GB/s up to 8 rows, GFLOP/s beyond", pool.threads());
    println!("{:<9}{:<7}{:<7}{}", "isa", "type", "layout", sizes.map(|m| format!("{m:>8}")).concat());
    for isa in Isa::available().filter(|isa| wanted(2, &format!("{isa:?}")) && *isa > Isa::Baseline) {
        for ty in WeightType::ALL.into_iter().filter(|ty| wanted(1, &format!("{ty:?}"))) {
            let bytes = matrices(ty)?;
            let raw: Vec<Matrix> =
                bytes.iter().map(|b| Matrix::raw(ty, ROWS, COLS, b)).collect::<Result<_, MatrixError>>()?;
            let size = ty.row_bytes(COLS).unwrap_or(0) * ROWS_OF_MANY;
            let few = vec![Matrix::raw(ty, ROWS_OF_MANY, COLS, &bytes[0][..size])?];
            let pack = |raw: &[Matrix]| raw.iter().filter_map(Matrix::pack).collect::<Vec<_>>();
            for (layout, all, few) in [("packed", pack(&raw), pack(&few)), ("raw", raw, few)] {
                if !all.is_empty() {
                    let cells = sizes
                        .map(|m| format!("{:>8.1}", speed(isa, &pool, if m > 8 { &few } else { &all }, m)));
                    println!(
                        "{:<9}{:<7}{layout:<7}{}",
                        format!("{isa:?}"),
                        format!("{ty:?}"),
                        cells.concat()
                    );
                }
            }
        }
    }
    Ok(())
}

/// Random matrices of about [`BYTES`] in all.
fn matrices(ty: WeightType) -> Result<Vec<Vec<u8>>, MatrixError> {
    let size = ty.row_bytes(COLS).ok_or(MatrixError::Columns { ty, cols: COLS })? * ROWS;
    let mut state = 1u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8 & 0x1f | 0x20 // floats of a middling size: no NaN, nothing denormal
    };
    Ok((0..BYTES.div_ceil(size)).map(|_| (0..size).map(|_| byte()).collect()).collect())
}

/// That of the best of some passes through all matrices.
fn speed(isa: Isa, pool: &Pool, matrices: &[Matrix], m: usize) -> f64 {
    let (bytes, row) = (matrices[0].weight_type().row_bytes(COLS).unwrap_or(0), m * COLS);
    let mut x = Activations::new();
    let mut out = vec![0.0; m * ROWS];
    let values = x.reset(m, COLS);
    values.iter_mut().enumerate().for_each(|(i, value)| *value = (i * 37 % 101) as f32 / 50.0 - 1.0);
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < Duration::from_millis(400) {
        let pass = Instant::now();
        for matrix in matrices {
            let done = matmul_on(isa, pool, &[matrix], &mut x, &mut out[..m * matrix.rows()]);
            black_box((&out, done.is_ok()));
        }
        best = best.min(pass.elapsed().as_secs_f64());
    }
    let rows: usize = matrices.iter().map(Matrix::rows).sum();
    if m > 8 { 2.0 * (rows * row) as f64 / best / 1e9 } else { (rows * bytes) as f64 / best / 1e9 }
}
