//! The vocabulary: what each token is, which bytes it stands for, and which tokens have a meaning of their own.

use std::collections::BTreeSet;

use super::TokenizerError;
use super::bpe::from_alphabet;
use super::spm::SPACE;
use crate::gguf::Metadata;

/// Texts of tokens that end an answer or a turn, in the order in which one is taken for the end of a turn: those of
/// llama.cpp (`llama_vocab::impl::load`), without those of architectures that we do not serve.
const END_OF_TURN: [&str; 11] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
];
/// Texts of further tokens after which there is nothing to say: end of message, of a file, padding.
const END_OF_GENERATION: [&str; 14] = [
    "</s>",
    "<eos>",
    "[EOS]",
    "<|eom_id|>",
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
];

/// `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl TokenKind {
    fn from_number(number: i32) -> Self {
        match number {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            6 => Self::Byte,
            _ => Self::Unused,
        }
    }

    /// Text of a user may become such a token by merging. llama.cpp allows the others too; here they cannot be forged.
    pub(super) fn is_ordinary(self) -> bool {
        matches!(self, Self::Normal | Self::UserDefined | Self::Unused)
    }

    /// It is part of an answer's text.
    pub(super) fn has_text(self) -> bool {
        matches!(self, Self::Normal | Self::UserDefined | Self::Byte)
    }

    /// It is found in text only where special tokens are asked for.
    pub(super) fn is_special(self) -> bool {
        matches!(self, Self::Control | Self::Unknown)
    }
}

pub(super) struct Token {
    pub(super) kind: TokenKind,
    /// The bytes that it stands for; of a special token its name.
    pub(super) piece: Box<[u8]>,
}

pub(super) struct Vocab {
    pub(super) tokens: Vec<Token>,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) eot: Option<u32>,
    pub(super) unknown: Option<u32>,
    pub(super) end_of_generation: BTreeSet<u32>,
}

/// How a vocabulary writes bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Alphabet {
    /// `▁` is a space, `<0x0A>` is a byte.
    SentencePiece,
    /// A character for each byte.
    Gpt2,
}

impl Vocab {
    pub(super) fn read(
        metadata: &Metadata,
        texts: &[&str],
        alphabet: Alphabet,
    ) -> Result<Self, TokenizerError> {
        let kinds = metadata.get::<Vec<i32>>("tokenizer.ggml.token_type")?;
        let kinds = kinds.unwrap_or_else(|| vec![1; texts.len()]);
        if kinds.len() != texts.len() {
            return Err(TokenizerError::Lengths {
                key: "tokenizer.ggml.token_type",
                len: kinds.len(),
                tokens: texts.len(),
            });
        }
        let id = |name: &str, default: Option<u32>| -> Result<Option<u32>, TokenizerError> {
            let key = format!("tokenizer.ggml.{name}_token_id");
            match metadata.get::<u32>(&key)? {
                Some(id) if id as usize >= texts.len() => {
                    Err(TokenizerError::NoSuchToken { key, id, tokens: texts.len() })
                }
                Some(id) => Ok(Some(id)),
                None => Ok(default.filter(|&id| (id as usize) < texts.len())),
            }
        };
        let find = |name: &str| texts.iter().position(|text| *text == name).map(|id| id as u32);
        let default = |id: u32| (alphabet == Alphabet::SentencePiece).then_some(id);
        let unknown = id("unknown", default(0).filter(|_| kinds.first() == Some(&2)))?;

        let bos = id("bos", default(1))?;
        let eos = id("eos", default(2))?;
        let eot = id("eot", END_OF_TURN.into_iter().find_map(find))?;
        let known =
            END_OF_TURN.into_iter().chain(END_OF_GENERATION).filter_map(find).collect::<BTreeSet<_>>();
        let more =
            [eos, eot, id("eom", None)?, id("fim_pad", None)?, id("fim_rep", None)?, id("fim_sep", None)?];
        let end_of_generation = known.iter().copied().chain(more.into_iter().flatten()).collect();

        let token = |((id, text), kind): ((u32, &&str), i32)| {
            // As in llama.cpp: files that call these tokens something else are wrong.
            let kind = if known.contains(&id) { TokenKind::Control } else { TokenKind::from_number(kind) };
            Token { kind, piece: piece(text, kind, alphabet) }
        };
        Ok(Self {
            tokens: (0..).zip(texts).zip(kinds).map(token).collect(),
            bos,
            eos,
            eot,
            unknown,
            end_of_generation,
        })
    }
}

/// The scores of a SentencePiece vocabulary, one for each token; without any they are equal.
pub(super) fn scores(metadata: &Metadata, tokens: usize) -> Result<Vec<f32>, TokenizerError> {
    const KEY: &str = "tokenizer.ggml.scores";
    let scores = metadata.get::<Vec<f32>>(KEY)?.unwrap_or_else(|| vec![0.0; tokens]);
    if scores.len() != tokens {
        return Err(TokenizerError::Lengths { key: KEY, len: scores.len(), tokens });
    }
    match (0..).zip(&scores).find(|(_, score)| score.is_nan()) {
        Some((id, _)) => Err(TokenizerError::Score { id }),
        None => Ok(scores),
    }
}

fn piece(text: &str, kind: TokenKind, alphabet: Alphabet) -> Box<[u8]> {
    let literal = || Box::from(text.as_bytes());
    match (kind, alphabet) {
        (TokenKind::Normal, Alphabet::SentencePiece) => text.replace(SPACE, " ").into_bytes().into(),
        (TokenKind::Normal, Alphabet::Gpt2) => from_alphabet(text).unwrap_or_else(literal),
        (TokenKind::Byte, _) => named_byte(text).map_or_else(literal, |byte| Box::from([byte])),
        _ => literal(),
    }
}

/// The byte that `<0x0A>` names.
fn named_byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 2)
}
