//! Pre-tokenizers of byte-level BPE: how text is cut into the words inside which bytes merge.
//!
//! `tokenizer.ggml.pre` names one. Each is a list of expressions, taken from llama.cpp (`llm_tokenizer_bpe`): every
//! expression cuts the pieces that the one before left, and what it does not match stays a piece. They have no
//! look-around, so cutting takes linear time; the one place that needs it, `\s+(?!\S)`, is [`Spaces`].

use regex::Regex;

use super::TokenizerError;

/// What a run of white space in front of something else does: models were trained with `\s+(?!\S)|\s+`, which leaves
/// its last character to the word behind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spaces {
    /// Nothing of this kind in the expression.
    Plain,
    LeaveLast,
    /// The same, but the expression takes what ends in a line break as it is.
    LeaveLastBlank,
}

pub(super) struct PreTokenizer {
    steps: Vec<(Regex, Spaces)>,
    /// A word that is a token needs no merging (`ignore_merges`).
    pub(super) whole_words: bool,
    /// Where `tokenizer.ggml.add_bos_token` says nothing.
    pub(super) add_bos: bool,
}

const GPT2: (&str, Spaces) =
    (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+", Spaces::LeaveLast);
const DIGIT: (&str, Spaces) = (r"\p{N}", Spaces::Plain);
const DIGITS: (&str, Spaces) = (r"\p{N}+", Spaces::Plain);
const THREE_DIGITS: (&str, Spaces) = (r"[0-9][0-9][0-9]", Spaces::Plain);
const LLAMA3: (&str, Spaces) = (
    r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
    Spaces::LeaveLastBlank,
);
const QWEN2: (&str, Spaces) = (
    r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
    Spaces::LeaveLastBlank,
);
const QWEN35: (&str, Spaces) = (
    r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
    Spaces::LeaveLastBlank,
);
/// From Mistral's `tokenizer.json`; llama.cpp only comes close to it.
const TEKKEN: (&str, Spaces) = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+",
    Spaces::LeaveLastBlank,
);
const LINE_BREAK: (&str, Spaces) = (r"[\r\n]", Spaces::Plain);
const CJK: (&str, Spaces) = (r"[一-龥ࠀ-一가-\u{D7FF}]+", Spaces::Plain);
/// Cased letters as deepseek-llm lists them.
const DEEPSEEK_LETTERS: (&str, Spaces) = (
    r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+",
    Spaces::Plain,
);
const DEEPSEEK_MARKS: (&str, Spaces) = (r"\s?[!-/:-~！-／：-～‘-‟\u{3000}-。]+", Spaces::Plain);
const SPACES_AT_END: (&str, Spaces) = (r"\s+$", Spaces::Plain);

impl PreTokenizer {
    /// The one that `tokenizer.ggml.pre` names.
    pub(super) fn named(name: &str) -> Result<Self, TokenizerError> {
        let steps: &[(&str, Spaces)] = match name {
            "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0"
            | "lfm2" | "dbrx" | "smaug-bpe" => &[LLAMA3],
            "qwen2" | "deepseek-r1-qwen" | "megrez" | "stablelm2" => &[QWEN2],
            "qwen35" => &[QWEN35],
            "tekken" => &[TEKKEN],
            "gpt-2" | "phi-2" | "mpt" | "olmo" | "jais" | "exaone4" => &[GPT2],
            "starcoder" | "refact" | "command-r" | "smollm" | "codeshell" | "exaone" | "minerva-7b" => {
                &[DIGIT, GPT2]
            }
            "deepseek-llm" => &[LINE_BREAK, DEEPSEEK_LETTERS, DEEPSEEK_MARKS, SPACES_AT_END, CJK, DIGITS],
            "deepseek-coder" => {
                &[LINE_BREAK, (r"\s?\p{L}+", Spaces::Plain), (r"\s?\p{P}+", Spaces::Plain), CJK, DIGIT]
            }
            "falcon" => &[(r"[\p{P}\$\+<=>\^~\|`]+", Spaces::Plain), GPT2, THREE_DIGITS],
            "default" => &[(r"[\p{P}\$\+<=>\^~\|]+", Spaces::Plain), GPT2, DIGITS, THREE_DIGITS],
            _ => return Err(TokenizerError::PreTokenizer { name: name.to_owned() }),
        };
        let compile = |&(expression, spaces): &(&str, Spaces)| {
            let regex = Regex::new(expression).map_err(|source| TokenizerError::Expression { source })?;
            Ok::<_, TokenizerError>((regex, spaces))
        };
        let llama3 = steps[0] == LLAMA3 && !matches!(name, "dbrx" | "smaug-bpe");
        Ok(Self {
            steps: steps.iter().map(compile).collect::<Result<_, _>>()?,
            whole_words: llama3 || name == "tekken",
            add_bos: llama3 || name == "tekken",
        })
    }

    /// The words of a text; joined they are the text.
    pub(super) fn split<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let mut pieces = vec![text];
        for (regex, spaces) in &self.steps {
            pieces = pieces.into_iter().flat_map(|piece| cut(piece, regex, *spaces)).collect();
        }
        pieces
    }
}

fn cut<'a>(text: &'a str, regex: &Regex, spaces: Spaces) -> Vec<&'a str> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(found) = regex.find_at(text, at) {
        let end = found.start() + taken(found.as_str(), spaces, found.end() == text.len());
        pieces.extend([&text[at..found.start()], &text[found.start()..end]]);
        at = end;
    }
    pieces.push(&text[at..]);
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

/// How many bytes of a match are taken.
fn taken(found: &str, spaces: Spaces, at_end: bool) -> usize {
    let blank = |c: char| match spaces {
        Spaces::Plain => false,
        Spaces::LeaveLast => c.is_whitespace(),
        Spaces::LeaveLastBlank => c.is_whitespace() && !matches!(c, '\r' | '\n'),
    };
    match found.char_indices().next_back() {
        // Only the alternative `\s+` ends in one.
        Some((last, c)) if blank(c) && !at_end && last > 0 => last,
        _ => found.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words that Python's `regex` cut with the expressions of the models' `tokenizer.json`, look-around included.
    #[test]
    fn words_are_those_of_the_original_expressions() {
        let cases = include_str!("../../tests/data/words.jsonl");
        for line in cases.lines() {
            let case: serde_json::Value = serde_json::from_str(line).unwrap();
            let expected: Vec<&str> =
                case["words"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
            let words = PreTokenizer::named(case["pre"].as_str().unwrap()).unwrap();
            assert_eq!(words.split(&expected.concat()), expected, "{}", case["pre"]);
        }
        assert_eq!(cases.lines().count(), 40);
    }
}
