//! CPU kernels for GGUF weights: slices in, slices out, the same bits in every batch.

pub mod pool;
