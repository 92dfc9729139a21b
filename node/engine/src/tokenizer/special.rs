//! Tokens that are found in text as they are written, before anything merges.

use std::borrow::Cow;

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind};

use super::TokenizerError;
use super::vocab::{TokenKind, Vocab};

/// Put inside the name of a special token, it keeps it from being one. Unicode reserves this code point for use
/// inside a program: no text has it.
const SHIELD: char = '\u{FDD0}';

/// Names of special tokens in all, in bytes: Gemma's 6,242 unused tokens have 75 kB.
const MAX_NAMES: usize = 1 << 20;

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Token(u32),
    Text(Cow<'a, str>),
}

pub(super) struct Specials {
    user_defined: Names,
    all: Names,
}

struct Names {
    automaton: AhoCorasick,
    /// Of each pattern: its token, and whether white space behind it belongs to it.
    tokens: Vec<(u32, bool)>,
}

impl Specials {
    /// `strips`: white space behind the special token of this name is dropped.
    pub(super) fn new(vocab: &Vocab, strips: impl Fn(&str) -> bool) -> Result<Self, TokenizerError> {
        let names = |wanted: fn(TokenKind) -> bool| {
            let found = (0_u32..).zip(&vocab.tokens).filter(|(_, token)| wanted(token.kind));
            let found = found.filter(|(_, token)| !token.piece.is_empty());
            let (tokens, names): (Vec<_>, Vec<_>) = found
                .map(|(id, token)| ((id, strips(&String::from_utf8_lossy(&token.piece))), &token.piece))
                .unzip();
            let bytes = names.iter().map(|name| name.len()).sum();
            if bytes > MAX_NAMES {
                return Err(TokenizerError::LongNames { bytes, limit: MAX_NAMES });
            }
            // Where two overlap the first wins, and of those the longest. (llama.cpp looks for the longest first.)
            // Not the faster automaton: it takes a kilobyte for each byte of a name.
            let automaton = AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .kind(Some(AhoCorasickKind::ContiguousNFA))
                .build(names);
            let automaton = automaton.map_err(|source| TokenizerError::Names { source })?;
            Ok::<_, TokenizerError>(Names { automaton, tokens })
        };
        Ok(Self {
            user_defined: names(|kind| kind == TokenKind::UserDefined)?,
            all: names(|kind| kind == TokenKind::UserDefined || kind.is_special())?,
        })
    }

    /// Cuts at user-defined tokens, which are always found, and with `parse_special` at special ones.
    pub(super) fn split<'a>(&self, text: &'a str, parse_special: bool) -> Vec<Part<'a>> {
        let names = if parse_special { &self.all } else { &self.user_defined };
        let mut parts = Vec::new();
        let mut at = 0;
        for found in names.automaton.find_iter(text) {
            let (id, strips) = names.tokens[found.pattern()];
            push_text(&mut parts, text.get(at..found.start()).unwrap_or_default(), parse_special);
            parts.push(Part::Token(id));
            let behind = &text[found.end()..];
            let white = |c: char| matches!(c, ' ' | '\t'..='\r');
            at = text.len() - if strips { behind.trim_start_matches(white).len() } else { behind.len() };
        }
        push_text(&mut parts, &text[at..], parse_special);
        parts
    }

    /// The text with every special token's name made harmless until [`Self::split`] has looked for special tokens.
    pub(super) fn shield(&self, vocab: &Vocab, text: &str) -> String {
        let text = unshield(text);
        let mut shielded = String::with_capacity(text.len());
        let (mut copied, mut at) = (0, 0);
        while let Some(found) = self.all.automaton.find(Input::new(&*text).range(at..)) {
            // Behind the first character, and on from there: names may overlap.
            at = found.start() + text[found.start()..].chars().next().map_or(1, char::len_utf8);
            let (id, _) = self.all.tokens[found.pattern()];
            if vocab.tokens[id as usize].kind.is_special() {
                shielded.push_str(&text[copied..at]);
                shielded.push(SHIELD);
                copied = at;
            }
        }
        shielded.push_str(&text[copied..]);
        shielded
    }
}

fn push_text<'a>(parts: &mut Vec<Part<'a>>, text: &'a str, shielded: bool) {
    if !text.is_empty() {
        parts.push(Part::Text(if shielded { unshield(text) } else { text.into() }));
    }
}

fn unshield(text: &str) -> Cow<'_, str> {
    if text.contains(SHIELD) { text.replace(SHIELD, "").into() } else { text.into() }
}
