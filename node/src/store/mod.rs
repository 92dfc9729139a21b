//! Model files: what is in them, how to cut them into shards, and the shards on disk.
//!
//! ```text
//!  model ─▶ Model::open ─▶ plan::balanced_starts (pure) ─▶ split ─▶ shard-{i}.gguf, tokenizer.gguf, manifest.json
//!   headers only            which layers go where           every byte once to hash, once to copy
//!  folder ─▶ scan: every .gguf file, hashed once ─▶ seeded; leftover: what plans of before have left
//! ```

pub mod hash;
pub mod inspect;
pub mod leftover;
pub mod model;
pub mod plan;
pub mod scan;
pub mod source;
pub mod split;
pub mod view;
