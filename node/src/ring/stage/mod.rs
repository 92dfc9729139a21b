//! One node's side of the ring.

mod admit;
pub mod job;
mod slot;
pub mod table;
