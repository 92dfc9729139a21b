//! Text to tokens and back, from the metadata of a GGUF file, with the ids that llama.cpp gives.
//!
//! ```text
//! text ─ special.rs: user-defined (and, if asked, special) tokens as they are written
//!          └─ the text between ─┬─ spm.rs: SentencePiece, `tokenizer.ggml.model = llama` ──┬─ merge.rs ─ ids
//!                               └─ pretokenizer.rs: words ─ bpe.rs: bytes, `… = gpt2` ─────┘
//! ids ─ decoder.rs ─ text
//! ```
//! vocab.rs reads what the tokens are. What is checked when it is made cannot fail later: encoding and decoding
//! have no errors, and take time n log n.

mod bpe;
mod decoder;
mod error;
mod merge;
mod pretokenizer;
mod special;
mod spm;
mod vocab;

use bpe::Bpe;
pub use decoder::{Decoder, Start};
pub use error::TokenizerError;
use pretokenizer::PreTokenizer;
use special::{Part, Specials};
use spm::Spm;
use vocab::{Alphabet, Vocab};

use crate::gguf::Gguf;

/// The tokenizer of one model. Immutable: to be shared.
pub struct Tokenizer {
    vocab: Vocab,
    specials: Specials,
    model: Model,
    add_bos: bool,
    add_eos: bool,
}

enum Model {
    Spm(Spm),
    Bpe(Bpe),
}

impl Tokenizer {
    /// Reads the vocabulary of a model.
    ///
    /// # Errors
    /// Names the metadata that is missing, of another type, inconsistent, or of a kind that is not supported.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, TokenizerError> {
        let metadata = &gguf.metadata;
        let name = metadata.require::<&str>("tokenizer.ggml.model")?;
        let texts = metadata.require::<Vec<&str>>("tokenizer.ggml.tokens")?;
        let (vocab, model, add_bos) = match name {
            "llama" => {
                let vocab = Vocab::read(metadata, &texts, Alphabet::SentencePiece)?;
                let add_space_prefix = metadata.get("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
                let spm = Spm::new(&vocab, &texts, &vocab::scores(metadata, texts.len())?, add_space_prefix)?;
                (vocab, Model::Spm(spm), true)
            }
            "gpt2" => {
                let vocab = Vocab::read(metadata, &texts, Alphabet::Gpt2)?;
                let words = PreTokenizer::named(metadata.get("tokenizer.ggml.pre")?.unwrap_or("default"))?;
                let add_bos = words.add_bos;
                let merges = metadata.require::<Vec<&str>>("tokenizer.ggml.merges")?;
                let bpe = Bpe::new(&vocab, &texts, &merges, words)?;
                (vocab, Model::Bpe(bpe), add_bos)
            }
            _ => return Err(TokenizerError::Model { name: name.to_owned() }),
        };
        let flag = |name: &'static str, default, id: Option<u32>| {
            let add = metadata.get(name)?.unwrap_or(default);
            if add && id.is_none() { Err(TokenizerError::NothingToAdd { flag: name }) } else { Ok(add) }
        };
        let add_bos = flag("tokenizer.ggml.add_bos_token", add_bos, vocab.bos)?;
        let add_eos = flag("tokenizer.ggml.add_eos_token", false, vocab.eos)?;

        // As llama.cpp: Phi-3's own tokenizer drops the line break behind `<|user|>`, and GGUF has no word for it.
        let model_name = metadata.get::<&str>("general.name")?.unwrap_or_default().to_lowercase();
        let phi3 = model_name.contains("phi-3") || model_name.contains("phi3");
        let strips = |name: &str| phi3 && !matches!(name, "<unk>" | "<s>" | "<|endoftext|>");
        let specials = Specials::new(&vocab, strips)?;
        Ok(Self { vocab, specials, model, add_bos, add_eos })
    }

    /// The ids of a text. `add_special` puts BOS in front and EOS behind where the model wants them. `parse_special`
    /// finds the names of special tokens in the text; without it they are text like any other.
    #[must_use]
    pub fn encode(&self, text: &str, add_special: bool, parse_special: bool) -> Vec<u32> {
        let mut ids = Vec::new();
        ids.extend(self.bos().filter(|_| add_special && self.add_bos));
        let mut after_special = true;
        for part in self.specials.split(text, parse_special) {
            match (part, &self.model) {
                (Part::Token(id), _) => {
                    ids.push(id);
                    after_special = true;
                    continue;
                }
                (Part::Text(text), Model::Spm(spm)) => spm.encode(&text, after_special, &mut ids),
                (Part::Text(text), Model::Bpe(bpe)) => bpe.encode(&text, &mut ids),
            }
            after_special = false;
        }
        ids.extend(self.eos().filter(|_| add_special && self.add_eos));
        ids
    }

    /// A text inside which no special token is found any more, also where it becomes part of a prompt that is encoded
    /// with `parse_special`: what a user writes stays text.
    #[must_use]
    pub fn shield(&self, text: &str) -> String {
        self.specials.shield(&self.vocab, text)
    }

    /// What a token stands for: its bytes, which need not be whole characters, or the name of a special token.
    /// `None` where there is no such token.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.vocab.tokens.get(id as usize).map(|token| &*token.piece)
    }

    /// The bytes that a token adds to an answer: none for control, unknown and unused tokens.
    fn text_bytes(&self, id: u32) -> Option<&[u8]> {
        self.vocab.tokens.get(id as usize).filter(|token| token.kind.has_text()).map(|token| &*token.piece)
    }

    /// Turns the tokens of one answer into text, one after the other.
    #[must_use]
    pub fn decoder(&self, start: Start) -> Decoder {
        let prefixed = matches!(&self.model, Model::Spm(spm) if spm.add_space_prefix);
        Decoder::new(prefixed && start == Start::Text)
    }

    /// The text of a whole answer.
    #[must_use]
    pub fn decode(&self, ids: &[u32], start: Start) -> String {
        let mut decoder = self.decoder(start);
        let text: String = ids.iter().map(|&id| decoder.push(self, id)).collect();
        text + &decoder.finish()
    }

    /// How many tokens there are.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.vocab.tokens.len()
    }

    /// The token in front of a text.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.vocab.bos
    }

    /// The token behind a text.
    #[must_use]
    pub fn eos(&self) -> Option<u32> {
        self.vocab.eos
    }

    /// The token that ends a turn of a conversation.
    #[must_use]
    pub fn eot(&self) -> Option<u32> {
        self.vocab.eot
    }

    /// [`Self::encode`] puts BOS in front.
    #[must_use]
    pub fn adds_bos(&self) -> bool {
        self.add_bos
    }

    /// All tokens that end an answer, in order: EOS, EOT, and those whose names say so.
    pub fn end_of_generation(&self) -> impl Iterator<Item = u32> {
        self.vocab.end_of_generation.iter().copied()
    }
}
