//! A gateway's side of the ring.

pub mod driver;
mod recovery;
pub mod route;
mod session;
pub mod sessions;
