//! CPU kernels for GGUF weights: slices in, slices out, the same bits in every batch.
//!
//! ```text
//! Matrix::raw(type, rows, cols, bytes)   borrowed blocks of the mapped file, or
//!        └ pack() ──────────────────────▶ 16 rows interleaved in an own buffer, same size
//! Activations::reset(rows, cols) ───────▶ the f32 rows to fill in
//! matmul(pool, &[&q, &k, &v], &mut x, out)
//!    1. quantises x once per family that the weights need (`activations`)
//!    2. cuts the outputs into chunks of rows for the pool   (`matmul`)
//!    3. runs the best kernels of this machine               (`isa`: AVX-512 VNNI, AVX2, plain Rust)
//!
//! KvCache::write(position, key, value)   one layer of one sequence, in blocks of 16 positions (`kv`)
//! attend(pool, heads, sequences, …)      rows of several sequences over their caches (`attention`)
//! rms_norm, rope, silu_mul, add, softmax rows of f32 (`ops`)
//! Pool::run(chunks, work)                fork and join in about a microsecond (`pool`)
//! give_back_freed_memory()              no more memory than is used (`heap`)
//! ```
//!
//! Every kernel obeys the contract in [`numerics`]: an output depends on its weight row and its activation row only.
//! So the bits are equal for every batch size, layout, instruction set and number of threads. `tests/contract.rs` holds them
//! against each other; `cargo run --release -p shard-kernels --example speed` prints what they reach.

mod activations;
pub mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod blocks;
mod buffer;
pub mod half;
pub mod heap;
pub mod isa;
pub mod kv;
mod lanes;
mod matmul;
mod matrix;
pub mod numerics;
pub mod ops;
mod pack;
pub mod pool;
mod rare;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod simd;
mod vector;
mod weight_type;

pub use activations::Activations;
pub use blocks::dequantize_row;
pub use matmul::{MatmulError, matmul, matmul_free, matmul_on};
pub use matrix::{Matrix, MatrixError};
pub use pool::Pool;
pub use weight_type::WeightType;
