//! A gateway's side of the ring.

mod recovery;
pub mod route;
mod session;
pub mod sessions;
