//! The ring: sessions that open along a route, and tokens that go round it.

pub mod client;
pub mod gateway;
pub mod stage;
