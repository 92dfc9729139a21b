//! The text of one answer as it grows: what may be shown, what is held back because it may become a stop string, and
//! which token belongs to which text.
//!
//! Text is cut before the stop string that is complete first, so the result does not depend on where tokens begin and
//! end. Only the longest end of the text that is the beginning of a stop string is held back.

use std::collections::VecDeque;

/// A token with its probability, where the client asked for that.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scored {
    /// The token's own bytes; several tokens may make one character.
    pub(super) bytes: Vec<u8>,
    /// Natural logarithm of its probability.
    pub(super) logprob: f32,
    /// The likeliest tokens at its place.
    pub(super) top: Vec<(Vec<u8>, f32)>,
}

/// Text to show, and the tokens that it came from.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Piece {
    pub(super) text: String,
    /// Each with the place of its text in the answer, in characters.
    pub(super) scores: Vec<(usize, Scored)>,
}

impl Piece {
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty() && self.scores.is_empty()
    }

    pub(super) fn append(&mut self, mut next: Self) {
        self.text += &next.text;
        self.scores.append(&mut next.scores);
    }
}

/// The text of one answer.
#[derive(Debug)]
pub(super) struct Transcript {
    stops: Vec<String>,
    /// Text that may become a stop string.
    held: String,
    /// Bytes shown.
    shown: usize,
    /// Characters shown and held.
    chars: usize,
    /// Tokens whose text is not shown yet, with the byte and the character where it begins.
    waiting: VecDeque<(usize, usize, Scored)>,
}

impl Transcript {
    pub(super) fn new(stops: Vec<String>) -> Self {
        Self { stops, held: String::new(), shown: 0, chars: 0, waiting: VecDeque::new() }
    }

    /// Adds a token's text. `true` when a stop string is complete: the answer ends with this piece.
    pub(super) fn push(&mut self, text: &str, score: Option<Scored>) -> (Piece, bool) {
        if let Some(score) = score {
            self.waiting.push_back((self.shown + self.held.len(), self.chars, score));
        }
        self.held += text;
        self.chars += text.chars().count();
        if let Some(cut) = self.stop() {
            let piece = self.show(cut);
            return (piece, true);
        }
        let keep = self.stops.iter().map(|stop| beginning_at_end(stop, &self.held)).max().unwrap_or(0);
        let mut piece = self.show(self.held.len() - keep);
        if self.held.is_empty() {
            self.drain(&mut piece);
        }
        (piece, false)
    }

    /// The rest, when the answer ended by itself; `tail` is what was left of its last character.
    pub(super) fn finish(&mut self, tail: &str) -> (Piece, bool) {
        let (mut piece, stopped) = self.push(tail, None);
        if !stopped {
            piece.append(self.show(self.held.len()));
            self.drain(&mut piece);
        }
        (piece, stopped)
    }

    /// Where the stop string that is complete first begins.
    fn stop(&self) -> Option<usize> {
        let found = |stop: &String| self.held.find(stop.as_str()).map(|start| (start + stop.len(), start));
        self.stops.iter().filter_map(found).min().map(|(_, start)| start)
    }

    fn show(&mut self, len: usize) -> Piece {
        let text: String = self.held.drain(..len).collect();
        self.shown += len;
        let count = self.waiting.partition_point(|(start, _, _)| *start < self.shown);
        let scores = self.waiting.drain(..count).map(|(_, char, score)| (char, score)).collect();
        Piece { text, scores }
    }

    /// Tokens without text of their own go with what was shown before them.
    fn drain(&mut self, piece: &mut Piece) {
        piece.scores.extend(self.waiting.drain(..).map(|(_, char, score)| (char, score)));
    }
}

/// Length of the longest proper beginning of `stop` that ends `text`.
fn beginning_at_end(stop: &str, text: &str) -> usize {
    let lengths = (1..stop.len()).rev().filter(|len| stop.is_char_boundary(*len));
    lengths.into_iter().find(|len| text.ends_with(&stop[..*len])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scored(token: &str) -> Option<Scored> {
        Some(Scored { bytes: token.into(), logprob: -1.0, top: Vec::new() })
    }

    /// What is shown when `text` comes in these tokens, and whether it was stopped.
    fn run(stops: &[String], tokens: &[String]) -> (Piece, bool) {
        let mut transcript = Transcript::new(stops.to_vec());
        let mut shown = Piece::default();
        for token in tokens {
            let (piece, stopped) = transcript.push(token, scored(token));
            shown.append(piece);
            if stopped {
                return (shown, true);
            }
            assert!(
                transcript.held.len() < stops.iter().map(String::len).max().unwrap_or(1),
                "too much is held back"
            );
        }
        let (rest, stopped) = transcript.finish("");
        shown.append(rest);
        (shown, stopped)
    }

    /// Letters are few, so that stop strings overlap with the text, with one another and with themselves.
    fn text(len: std::ops::Range<usize>) -> impl Strategy<Value = String> {
        proptest::collection::vec(prop_oneof![Just('a'), Just('b'), Just('ä')], len)
            .prop_map(String::from_iter)
    }

    proptest! {
        /// The cut is before the stop string whose end comes first, wherever tokens begin and end; each token that has
        /// begun before the cut is there once, at its place.
        #[test]
        fn tokens_do_not_matter(
            stops in proptest::collection::vec(text(1..5), 0..4),
            tokens in proptest::collection::vec(text(0..4), 0..30),
        ) {
            let whole: String = tokens.concat();
            let ends = whole.char_indices().map(|(at, letter)| at + letter.len_utf8());
            let stop_at = |end: usize| stops.iter().filter(|stop| whole[..end].ends_with(*stop)).map(String::len).max();
            let cut = ends.into_iter().find_map(|end| stop_at(end).map(|len| end - len));
            let expected = &whole[..cut.unwrap_or(whole.len())];

            let (shown, stopped) = run(&stops, &tokens);
            prop_assert_eq!(&shown.text, expected);
            prop_assert_eq!(stopped, cut.is_some());
            let mut at = 0;
            for ((place, score), token) in shown.scores.iter().zip(&tokens) {
                prop_assert_eq!(*place, whole[..at].chars().count());
                prop_assert_eq!(&score.bytes, token.as_bytes());
                at += token.len();
            }
            prop_assert!(at >= expected.len(), "a token is missing");
        }
    }
}
