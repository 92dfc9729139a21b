//! Byte-level BPE (`tokenizer.ggml.model = gpt2`): text is cut into words, and the bytes of a word merge by rank.

use std::collections::HashMap;

use super::TokenizerError;
use super::merge::merge;
use super::pretokenizer::PreTokenizer;
use super::vocab::Vocab;

/// A symbol is a string of bytes: the ids of the vocabulary, and above them what merges need beside it.
type Symbol = u32;

pub(super) struct Bpe {
    words: PreTokenizer,
    symbols: HashMap<Box<[u8]>, Symbol>,
    bytes: Box<[Symbol]>,
    /// Neighbours → rank, merged.
    merges: HashMap<(Symbol, Symbol), (u32, Symbol)>,
    /// Symbols below are tokens.
    vocab_size: u32,
    /// Bytes of the symbols from `vocab_size` on.
    beyond: Vec<Box<[u8]>>,
}

impl Bpe {
    /// `merges` are pairs with a space between.
    pub(super) fn new(
        vocab: &Vocab,
        texts: &[&str],
        merges: &[&str],
        words: PreTokenizer,
    ) -> Result<Self, TokenizerError> {
        let mut symbols = HashMap::new();
        for ((id, text), token) in (0..).zip(texts).zip(&vocab.tokens) {
            if let Some(bytes) = from_alphabet(text).filter(|_| token.kind.is_ordinary()) {
                symbols.entry(bytes).or_insert(id);
            }
        }
        let mut bpe = Self {
            words,
            symbols,
            bytes: Box::default(),
            merges: HashMap::with_capacity(merges.len()),
            vocab_size: texts.len() as u32,
            beyond: Vec::new(),
        };
        bpe.bytes = (0..=u8::MAX).map(|byte| bpe.intern(&[byte])).collect();
        for (rank, text) in (0..).zip(merges) {
            // The first part may itself begin with a space.
            let space = text.char_indices().skip(1).find(|&(_, c)| c == ' ');
            let (left, right) = space
                .map(|(at, _)| (&text[..at], &text[at + 1..]))
                .ok_or_else(|| TokenizerError::Merge { rank, text: (*text).to_owned() })?;
            // Bytes of text become nothing else than this alphabet, so another merge never applies.
            let (Some(left), Some(right)) = (from_alphabet(left), from_alphabet(right)) else { continue };
            let pair = (bpe.intern(&left), bpe.intern(&right));
            let merged = bpe.intern(&[left, right].concat());
            bpe.merges.entry(pair).or_insert((rank, merged));
        }
        Ok(bpe)
    }

    fn intern(&mut self, bytes: &[u8]) -> Symbol {
        if let Some(&symbol) = self.symbols.get(bytes) {
            return symbol;
        }
        let symbol = self.vocab_size + self.beyond.len() as u32;
        self.symbols.insert(bytes.into(), symbol);
        self.beyond.push(bytes.into());
        symbol
    }

    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        for word in self.words.split(text) {
            if let Some(id) = self.whole_word(word) {
                ids.push(id);
                continue;
            }
            let bytes = word.bytes().map(|byte| self.byte(byte));
            for symbol in merge(bytes, |left, right| self.merges.get(&(left, right)).copied()) {
                match self.beyond.get(symbol.wrapping_sub(self.vocab_size) as usize) {
                    None => ids.push(symbol),
                    // Some vocabularies lack bytes that they never saw (falcon 0x03): dropped, as in llama.cpp.
                    Some(bytes) => {
                        let tokens = bytes.iter().map(|&byte| self.byte(byte));
                        ids.extend(tokens.filter(|&id| id < self.vocab_size));
                    }
                }
            }
        }
    }

    /// The token that a word is without any merging, for vocabularies that want that.
    fn whole_word(&self, word: &str) -> Option<u32> {
        let symbol = self.symbols.get(word.as_bytes()).filter(|_| self.words.whole_words)?;
        Some(*symbol).filter(|&symbol| symbol < self.vocab_size)
    }

    fn byte(&self, byte: u8) -> Symbol {
        self.bytes[usize::from(byte)]
    }
}

/// The bytes that a text in GPT-2's alphabet stands for: printable bytes stand for themselves, the others for the
/// characters from U+0100 on (`bytes_to_unicode` in openai/gpt-2's encoder.py).
pub(super) fn from_alphabet(text: &str) -> Option<Box<[u8]>> {
    let byte = |c: char| match u32::from(c) {
        code @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => Some(code as u8),
        code @ 0x100..=0x120 => Some((code - 0x100) as u8),
        code @ 0x121..=0x142 => Some((code - 0x121 + 0x7F) as u8),
        0x143 => Some(0xAD),
        _ => None,
    };
    text.chars().map(byte).collect()
}
