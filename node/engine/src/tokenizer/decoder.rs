//! Token by token to text: bytes in, valid UTF-8 out, the same as if the whole answer were decoded at its end.

use super::Tokenizer;

/// Where an answer's text begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It stands for itself: the space that a SentencePiece vocabulary puts in front of a text is dropped.
    Text,
    /// It goes on behind the prompt's text: nothing is dropped.
    Continuation,
}

/// Makes an answer's text while its tokens arrive.
#[derive(Clone, Debug)]
pub struct Decoder {
    drop_space: bool,
    /// The beginning of a character: at most three bytes.
    pending: Vec<u8>,
}

impl Decoder {
    pub(super) fn new(drop_space: bool) -> Self {
        Self { drop_space, pending: Vec::new() }
    }

    /// The text that token `id` completes. Control and unknown tokens, and ids that are no tokens, have none.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
        let Some(mut bytes) = tokenizer.text_bytes(id).filter(|bytes| !bytes.is_empty()) else {
            return String::new();
        };
        if std::mem::take(&mut self.drop_space) {
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
        }
        self.pending.extend_from_slice(bytes);
        let whole = self.pending.len() - unfinished(&self.pending);
        let rest = self.pending.split_off(whole);
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending = rest;
        text
    }

    /// What is left at the end of the answer: U+FFFD for a character that never became whole.
    #[must_use]
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }
}

/// Bytes at the end that begin a character and may still become one.
fn unfinished(bytes: &[u8]) -> usize {
    let Some(last) = bytes.utf8_chunks().last() else { return 0 };
    let invalid = last.invalid();
    // An error that more bytes cannot mend has a length.
    match std::str::from_utf8(invalid) {
        Err(error) if error.error_len().is_none() => invalid.len(),
        _ => 0,
    }
}
