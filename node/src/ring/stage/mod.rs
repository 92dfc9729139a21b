//! One node's side of the ring.

mod admit;
pub mod driver;
mod event;
pub mod job;
mod queue;
mod slot;
pub mod table;
pub mod worker;
