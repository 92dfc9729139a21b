//! The ring: sessions that open along a route, and tokens that go round it.
//!
//! ```text
//!  gateway/                      stage/ of shard 0          stage/ of shard 1 … N-1
//!  Client ─▶ driver ─▶ Sessions   driver ─▶ Table            driver ─▶ Table
//!              │ OPEN, START        │  ▲ job   │ done          │  ▲
//!              └──────▶ lanes ═════▶┘  └ engine thread ═ lanes ▶┘  └ engine thread
//!              ▲                                                       │
//!              └═══════════════════════ TOKEN ═════════════════════════┘
//! ```
//! [`stage::table::Table`] and [`gateway::sessions::Sessions`] decide and do no I/O; a driver owns each.

pub mod client;
pub mod frame_io;
pub mod gateway;
pub mod lanes;
pub mod stage;
