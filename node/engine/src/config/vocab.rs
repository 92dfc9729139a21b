use super::{ConfigError, positive};
use crate::gguf::{Metadata, Value, ValueType};

const TOKENS: &str = "tokenizer.ggml.tokens";
const VOCAB_SIZE: &str = "llama.vocab_size";

/// Size of the vocabulary, after a look at the tokenizer's arrays and special tokens.
pub(super) fn read(metadata: &Metadata) -> Result<u32, ConfigError> {
    let tokens = array_len(metadata, TOKENS, ValueType::String)?;
    let vocab_size = match (tokens, metadata.get::<u32>(VOCAB_SIZE)?) {
        (None, _) => positive(metadata, VOCAB_SIZE, None)?,
        (Some(tokens), said) => {
            let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
            if tokens == 0 {
                return Err(ConfigError::value(TOKENS, &"empty", "a list of tokens"));
            }
            if let Some(said) = said.filter(|&said| said != tokens) {
                return Err(ConfigError::value(
                    VOCAB_SIZE,
                    &said,
                    format!("the length of {TOKENS}: {tokens}"),
                ));
            }
            tokens
        }
    };
    for (key, element) in
        [("tokenizer.ggml.scores", ValueType::F32), ("tokenizer.ggml.token_type", ValueType::I32)]
    {
        if let Some(len) = array_len(metadata, key, element)?
            && len != u64::from(vocab_size)
        {
            let value = format!("an array of {len}");
            return Err(ConfigError::value(key, &value, format!("as long as the vocabulary: {vocab_size}")));
        }
    }
    for key in metadata.keys().filter(|key| key.starts_with("tokenizer.") && key.ends_with("_token_id")) {
        let id: u32 = metadata.require(key)?;
        if id >= vocab_size {
            return Err(ConfigError::value(key, &id, format!("below the vocabulary's size: {vocab_size}")));
        }
    }
    Ok(vocab_size)
}

fn array_len(metadata: &Metadata, key: &str, element: ValueType) -> Result<Option<u64>, ConfigError> {
    match metadata.value(key) {
        None => Ok(None),
        Some(Value::Array(array)) if array.element == element => Ok(Some(array.len)),
        Some(other) => Err(ConfigError::value(key, &other, format!("an array of {element}"))),
    }
}
