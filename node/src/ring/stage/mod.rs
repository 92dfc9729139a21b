//! One node's side of the ring.

mod admit;
pub mod driver;
pub mod job;
mod queue;
mod slot;
pub mod table;
pub mod worker;
