//! CPU kernels for GGUF weights: slices in, slices out, the same bits in every batch.

pub mod attention;
pub mod half;
pub mod isa;
pub mod kv;
mod lanes;
pub mod ops;
pub mod pool;
