//! One shard of a Llama model from GGUF: load, forward, sample, tokenise. Synchronous; knows no network.
//!
//! ```text
//! file ─▶ gguf ─▶ config ─▶ weights ─▶ shard ◀── batch: rows of several sessions
//!                                       ├─ block, rope: the layers
//!                                       └─▶ hidden states, or logits ─▶ sample ─▶ token
//! text ─▶ chat ─▶ tokenizer ─▶ tokens                         session: keys and values of one request
//! ```

mod batch;
pub mod bench;
mod block;
pub mod chat;
pub mod config;
mod device;
pub mod gguf;
pub mod layout;
mod memory;
pub mod random;
mod rope;
pub mod sample;
mod session;
mod shard;
pub mod tokenizer;
mod weights;

pub use batch::{ForwardError, Input, Output, Rows};
#[cfg(feature = "candle")]
pub use device::DeviceModel;
pub use device::{Device, DeviceError};
pub use session::{Session, SessionError};
pub use shard::{LoadOptions, Memory, ShardModel};
pub use shard_kernels::heap::give_back_freed_memory;
pub use shard_kernels::kv::KvDtype;
pub use weights::{LoadError, Weights};
