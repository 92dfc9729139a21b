//! SentencePiece BPE (`tokenizer.ggml.model = llama`): the vocabulary's scores say which neighbours merge first.

use std::collections::HashMap;

use super::TokenizerError;
use super::merge::merge;
use super::vocab::{TokenKind, Vocab};

/// Stands for a space in the vocabulary.
pub(super) const SPACE: &str = "▁";

pub(super) struct Spm {
    /// Text (with `▁`) → (order of merging, id), of the tokens that ordinary text may become.
    pieces: HashMap<Box<str>, (u32, u32)>,
    longest: usize,
    /// Token of each byte of a character that is no piece; the unknown token where there is none.
    bytes: Box<[u32]>,
    pub(super) add_space_prefix: bool,
}

impl Spm {
    pub(super) fn new(
        vocab: &Vocab,
        texts: &[&str],
        scores: &[f32],
        add_space_prefix: bool,
    ) -> Result<Self, TokenizerError> {
        let mut pieces = HashMap::<Box<str>, _>::new();
        let mut bytes = [None; 256];
        for (((id, text), &score), token) in (0..).zip(texts).zip(scores).zip(&vocab.tokens) {
            if token.kind.is_ordinary() {
                pieces.entry(Box::from(*text)).or_insert((best_first(score), id));
            }
            if let (TokenKind::Byte, &[byte]) = (token.kind, &*token.piece) {
                bytes[usize::from(byte)].get_or_insert(id);
            }
        }
        let longest = pieces.keys().map(|text| text.len()).max().unwrap_or(0);
        let of_byte = |byte: u8| {
            let plain = || pieces.get(std::str::from_utf8(&[byte]).ok()?).map(|&(_, id)| id);
            let id = bytes[usize::from(byte)].or_else(plain).or(vocab.unknown);
            id.ok_or(TokenizerError::NoByteToken { byte })
        };
        let bytes = (0..=u8::MAX).map(of_byte).collect::<Result<_, _>>()?;
        Ok(Self { pieces, longest, bytes, add_space_prefix })
    }

    /// `after_special`: at the beginning, or behind a special token, where the space prefix belongs.
    pub(super) fn encode(&self, text: &str, after_special: bool, ids: &mut Vec<u32>) {
        let prefix = if self.add_space_prefix && after_special { SPACE } else { "" };
        let text = format!("{prefix}{}", text.replace(' ', SPACE));
        let chars = text.char_indices().map(|(at, c)| (at as u32, (at + c.len_utf8()) as u32));
        let symbols = merge(chars, |(start, _), (_, end)| {
            let piece = text.get(start as usize..end as usize).filter(|piece| piece.len() <= self.longest)?;
            self.pieces.get(piece).map(|&(rank, _)| (rank, (start, end)))
        });
        for (start, end) in symbols {
            let symbol = &text[start as usize..end as usize];
            match self.pieces.get(symbol) {
                Some(&(_, id)) => ids.push(id),
                None => ids.extend(symbol.bytes().map(|byte| self.bytes[usize::from(byte)])),
            }
        }
    }
}

/// A number that is smaller for a higher score.
fn best_first(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits(); // + 0.0: negative zero is zero
    if bits >> 31 == 1 { bits } else { !bits & (u32::MAX >> 1) }
}
