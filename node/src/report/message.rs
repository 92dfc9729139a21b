//! Commands and their answers.

use libp2p::PeerId;

use super::{Notice, bounded, foreign};

/// Characters of a message on the console.
const MESSAGE: usize = 240;
/// A prompt is its user's: neither it nor what follows it is shown.
const PRIVATE: &str = "INFERENCE";

/// A command or an answer on its way.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Who it goes to or comes from.
    pub peer: &'a PeerId,
    /// The command, or the one that is answered.
    pub command: &'a str,
    /// The transport's name of the exchange.
    pub request_id: &'a str,
    /// Its bytes.
    pub body: &'a [u8],
}

/// We ask.
pub fn message_sent(message: &Message<'_>) -> Notice {
    block("message_sent", "📤 SENT MESSAGE TO PEER", message)
}

/// Somebody asks us.
pub fn message_received(message: &Message<'_>) -> Notice {
    block("message_received", "📥 RECEIVED MESSAGE FROM PEER", message)
}

/// We answer.
pub fn response_sent(message: &Message<'_>) -> Notice {
    block("response_sent", "📤 SENT RESPONSE TO PEER", message)
}

/// We are answered.
pub fn response_received(message: &Message<'_>) -> Notice {
    block("response_received", "📥 RECEIVED RESPONSE FROM PEER", message)
}

fn block(event: &'static str, title: &str, message: &Message<'_>) -> Notice {
    let Message { peer, command, request_id, body } = *message;
    let shown = if command == PRIVATE {
        format!("({} bytes, not shown: a prompt is its user's)", body.len())
    } else {
        // A character has four bytes at most: this has one more than is shown, if there is one.
        let head = body.get(..4 * (MESSAGE + 1)).unwrap_or(body);
        bounded(&String::from_utf8_lossy(head), MESSAGE, body.len())
    };
    let text = format!(
        "[MSG] {title}: {peer}\n\
         [MSG]   Command: {}\n\
         [MSG]   Request ID: {}\n\
         [MSG]   Message: {shown}",
        foreign(command),
        foreign(request_id),
    );
    Notice::info(event, text)
        .shown("peer", peer)
        .with("command", foreign(command))
        .with("request_id", foreign(request_id))
        .with("message", shown)
        .with("bytes", body.len())
}
