//! Commands and their answers on their way: what `[MSG]` says of each.

use libp2p::PeerId;
use shard_wire::message::{Request, Response};

use crate::net::{NetError, Network, Responder};
use crate::report::{self, Console, Message, Notice};

/// Asks a peer.
///
/// # Errors
/// Where it does not answer.
pub async fn ask(
    network: &Network,
    console: Console,
    peer: PeerId,
    request: Request,
) -> Result<Response, NetError> {
    say(console, report::message_sent, &peer, &request, &request);
    let of = Request { params: serde_json::Value::Null, ..request.clone() };
    let response = network.request(peer, request).await?;
    say(console, report::response_received, &peer, &of, &response);
    Ok(response)
}

/// A peer asks.
pub fn received(console: Console, peer: &PeerId, request: &Request) {
    say(console, report::message_received, peer, request, request);
}

/// Answers it.
pub async fn answer(
    console: Console,
    peer: &PeerId,
    request: &Request,
    responder: Responder,
    with: Response,
) {
    say(console, report::response_sent, peer, request, &with);
    responder.send(with).await;
}

fn say(
    console: Console,
    notice: impl Fn(&Message<'_>) -> Notice,
    peer: &PeerId,
    of: &Request,
    body: &impl serde::Serialize,
) {
    // Plain data; serde_json cannot fail on it.
    let body = serde_json::to_vec(body).unwrap_or_default();
    console.say(&notice(&Message { peer, command: &of.command, request_id: &of.request_id, body: &body }));
}
