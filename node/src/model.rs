//! The model that a gateway serves, as far as a gateway needs it: its names, its vocabulary and its chat template.
//!
//! What a user writes is text: in a completion the names of special tokens are encoded as the characters they are, and
//! in a chat each message is shielded before the template is rendered, so that only the template's own text can
//! become a special token (`shard_engine::chat`).

use std::time::{SystemTime, UNIX_EPOCH};

use shard_engine::chat::{ChatError, ChatTemplate, Message};
use shard_engine::gguf::{Gguf, GgufError};
use shard_engine::tokenizer::{Decoder, Start, Tokenizer, TokenizerError};
use thiserror::Error;

/// What a gateway knows of a model from elsewhere: announcements and the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Short name of the plan that serves it.
    pub plan: String,
    /// The name that clients use.
    pub name: String,
    /// Hex SHA-256 of the whole model file.
    pub sha256: String,
    /// Positions of a session; `None` takes the model's own from the file, which `tokenizer.gguf` does not have.
    pub context_length: Option<u32>,
}

/// Why a file does not give a model.
#[derive(Debug, Error)]
pub enum ModelError {
    /// Its vocabulary cannot be used.
    #[error("the vocabulary of '{name}' cannot be used")]
    Tokenizer {
        /// The model.
        name: String,
        /// Why.
        source: TokenizerError,
    },
    /// Its chat template cannot be used.
    #[error("the chat template of '{name}' cannot be used")]
    Template {
        /// The model.
        name: String,
        /// Why.
        source: ChatError,
    },
    /// Nobody says how long its context is.
    #[error("the context length of '{name}' is known neither from the fleet nor from the file")]
    NoContext {
        /// The model.
        name: String,
    },
    /// The file says something else than a number.
    #[error("the context length of '{name}' cannot be read")]
    Context {
        /// The model.
        name: String,
        /// Why.
        source: GgufError,
    },
}

/// A model to serve. Immutable; it is shared.
pub struct Model {
    /// Short name of the plan that serves it.
    pub plan: String,
    /// The name that clients use.
    pub name: String,
    /// Hex SHA-256 of the whole model file.
    pub sha256: String,
    /// Positions of a session: prompt and answer.
    pub context_length: u32,
    /// When this process came to know it, seconds since the Unix epoch.
    pub created: u64,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    end: Vec<u32>,
}

impl Model {
    /// Reads vocabulary and template from the header of `tokenizer.gguf`, of a shard, or of the whole model.
    ///
    /// # Errors
    /// What is missing in the file or cannot be used.
    pub fn from_gguf(gguf: &Gguf, about: About) -> Result<Self, ModelError> {
        let About { plan, name, sha256, context_length } = about;
        let context_length = match context_length {
            Some(positions) => positions,
            None => match gguf.metadata.get("llama.context_length") {
                Ok(positions) => positions.ok_or_else(|| ModelError::NoContext { name: name.clone() })?,
                Err(source) => return Err(ModelError::Context { name, source }),
            },
        };
        let tokenizer = Tokenizer::from_gguf(gguf)
            .map_err(|source| ModelError::Tokenizer { name: name.clone(), source })?;
        let template = ChatTemplate::from_gguf(gguf, &tokenizer)
            .map_err(|source| ModelError::Template { name: name.clone(), source })?;
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let end = tokenizer.end_of_generation().collect();
        Ok(Self { plan, name, sha256, context_length, created, tokenizer, template, end })
    }

    /// Ids from 0 to below this one are tokens.
    pub fn vocabulary(&self) -> u32 {
        u32::try_from(self.tokenizer.vocab_size()).unwrap_or(u32::MAX)
    }

    /// The tokens that end an answer.
    pub fn end(&self) -> &[u32] {
        &self.end
    }

    /// The ids of a text, with BOS in front where the model wants it.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.tokenizer.encode(text, true, false)
    }

    /// The ids of a conversation, up to where the assistant begins to speak.
    ///
    /// # Errors
    /// When the template does not take these messages.
    pub fn encode_chat(&self, messages: &[Message]) -> Result<Vec<u32>, ChatError> {
        self.template.encode(&self.tokenizer, messages, SystemTime::now())
    }

    /// The text of a prompt given as ids.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.tokenizer.decode(ids, Start::Text)
    }

    /// Makes the text of an answer, token by token.
    pub fn decoder(&self, start: Start) -> Decoder {
        self.tokenizer.decoder(start)
    }

    /// The text that a token completes.
    pub fn push(&self, decoder: &mut Decoder, id: u32) -> String {
        decoder.push(&self.tokenizer, id)
    }

    /// A token's own bytes, or the name of a special one.
    pub fn bytes(&self, id: u32) -> &[u8] {
        self.tokenizer.token_bytes(id).unwrap_or_default()
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, sha256, context_length, .. } = self;
        write!(f, "Model {{ {name}, {sha256}, {context_length} positions }}")
    }
}
