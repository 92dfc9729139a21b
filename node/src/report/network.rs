//! Transports and connections.

use std::time::Duration;

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use super::{Notice, foreign, framed, seconds};
use crate::config::{Transport, word};

/// What the node talks over, and the first address that it tries.
pub fn transport(transport: Transport, bootstrap: &Multiaddr) -> Notice {
    let (name, note) = match transport {
        Transport::Dual => ("DualStack", "\n[TRANSPORT]   (dual-stack: will try QUIC first, TCP fallback)"),
        Transport::Tcp => ("TCP", ""),
        Transport::Quic => ("QUIC", ""),
    };
    let text = format!("[TRANSPORT] Using transport: {name}\n[TRANSPORT] Bootstrap: {bootstrap}{note}");
    Notice::info("transport", text).with("transport", word(&transport)).shown("bootstrap", bootstrap)
}

/// The node listens on one more address, or is about to.
pub fn listening(address: &Multiaddr) -> Notice {
    let protocol = protocol(address);
    let text = match protocol {
        "QUIC" => format!("[LISTEN] Listening on QUIC: {address}"),
        // Port 0 is what was asked for: the line is aligned with QUIC's.
        _ if address.iter().any(|part| part == Protocol::Tcp(0)) => {
            format!("[LISTEN] Listening on TCP:  {address}")
        }
        _ => format!("[LISTEN] Listening on: {address}\n[LISTEN] Listening on TCP: {address}"),
    };
    Notice::info("listening", text).shown("address", address).with("protocol", protocol)
}

/// The first entry is dialled.
pub fn connecting() -> Notice {
    Notice::info("connecting", "🔗 Connecting to bootstrap node...")
}

/// An entry has answered.
pub fn connected(peer: &PeerId, address: &Multiaddr) -> Notice {
    let protocol = protocol(address);
    let lines = [
        format!("Peer ID: {peer}"),
        format!("Transport: {protocol} (persistent connection)"),
        format!("Address: {address}"),
        "Direction: outbound".to_owned(),
    ];
    let block = framed("CONNECT", "CONNECTED TO BOOTSTRAP NODE", &lines);
    Notice::info("bootstrap_connected", format!("[CONNECT] ✓ Connection established!\n{block}"))
        .shown("peer", peer)
        .shown("address", address)
        .with("protocol", protocol)
        .with("direction", "outbound")
}

/// No entry has answered.
pub fn connect_failed(reason: &str, again_in: Duration) -> Notice {
    let text = format!(
        "[CONNECT] ✗ No bootstrap node answered ({}); trying again in {:.1} s",
        foreign(reason),
        again_in.as_secs_f32()
    );
    Notice::warn("bootstrap_unreachable", text).with("reason", reason).with("again_in_s", seconds(again_in))
}

/// A peer is connected.
pub fn peer_connected(peer: &PeerId, address: &Multiaddr, outbound: bool) -> Notice {
    let direction = if outbound { "outbound" } else { "inbound" };
    let protocol = protocol(address);
    Notice::info(
        "peer_connected",
        format!("[CONNECT] ✓ Connected to {peer} ({direction}, {protocol}): {address}"),
    )
    .shown("peer", peer)
    .shown("address", address)
    .with("protocol", protocol)
    .with("direction", direction)
}

/// A peer is gone; `None` where we closed the last connection ourselves.
pub fn peer_disconnected(peer: &PeerId, cause: Option<&str>) -> Notice {
    let why = cause.map_or_else(String::new, |cause| format!(" ({})", foreign(cause)));
    Notice::info("peer_disconnected", format!("[CONNECT] ✗ Disconnected from {peer}{why}"))
        .shown("peer", peer)
        .with("cause", cause)
}

fn protocol(address: &Multiaddr) -> &'static str {
    if address.iter().any(|part| part == Protocol::QuicV1) { "QUIC" } else { "TCP" }
}
