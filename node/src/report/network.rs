//! Transports and connections.

use std::time::Duration;

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use super::framed;
use crate::config::Transport;

/// What the node talks over, and the first address that it tries.
pub fn transport(transport: Transport, bootstrap: &Multiaddr) -> String {
    let (name, note) = match transport {
        Transport::Dual => ("DualStack", "\n[TRANSPORT]   (dual-stack: will try QUIC first, TCP fallback)"),
        Transport::Tcp => ("TCP", ""),
        Transport::Quic => ("QUIC", ""),
    };
    format!("[TRANSPORT] Using transport: {name}\n[TRANSPORT] Bootstrap: {bootstrap}{note}")
}

/// The node listens on one more address, or is about to.
pub fn listening(address: &Multiaddr) -> String {
    match protocol(address) {
        "QUIC" => format!("[LISTEN] Listening on QUIC: {address}"),
        // Port 0 is what was asked for: the line is aligned with QUIC's.
        _ if address.iter().any(|part| part == Protocol::Tcp(0)) => {
            format!("[LISTEN] Listening on TCP:  {address}")
        }
        _ => format!("[LISTEN] Listening on: {address}\n[LISTEN] Listening on TCP: {address}"),
    }
}

/// The first entry is dialled.
pub fn connecting() -> String {
    "🔗 Connecting to bootstrap node...".into()
}

/// An entry has answered.
pub fn connected(peer: &PeerId, address: &Multiaddr) -> String {
    let lines = [
        format!("Peer ID: {peer}"),
        format!("Transport: {} (persistent connection)", protocol(address)),
        format!("Address: {address}"),
        "Direction: outbound".to_owned(),
    ];
    let block = framed("CONNECT", "CONNECTED TO BOOTSTRAP NODE", &lines);
    format!("[CONNECT] ✓ Connection established!\n{block}")
}

/// No entry has answered.
pub fn connect_failed(reason: &str, again_in: Duration) -> String {
    format!(
        "[CONNECT] ✗ No bootstrap node answered ({reason}); trying again in {:.1} s",
        again_in.as_secs_f32()
    )
}

/// A connection to a peer came or went.
pub fn peer_connected(peer: &PeerId, address: &Multiaddr, outbound: bool) -> String {
    let direction = if outbound { "outbound" } else { "inbound" };
    format!("[CONNECT] ✓ Connected to {peer} ({direction}, {}): {address}", protocol(address))
}

/// A peer is gone.
pub fn peer_disconnected(peer: &PeerId) -> String {
    format!("[CONNECT] ✗ Disconnected from {peer}")
}

fn protocol(address: &Multiaddr) -> &'static str {
    if address.iter().any(|part| part == Protocol::QuicV1) { "QUIC" } else { "TCP" }
}
