use crate::gguf::GgufError;

/// Why a file's tokenizer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A key is missing, or its value is of another type.
    #[error("cannot read the tokenizer's metadata: {0}")]
    Metadata(#[from] GgufError),
    /// A kind of tokenizer that we do not have.
    #[error(
        "tokenizer.ggml.model {name:?} is not supported: \"llama\" (SentencePiece) and \"gpt2\" (byte-level BPE) are"
    )]
    Model {
        /// The kind.
        name: String,
    },
    /// A way of cutting text into words that we do not have.
    #[error("pre-tokenizer {name:?} (tokenizer.ggml.pre) is not supported")]
    PreTokenizer {
        /// Its name.
        name: String,
    },
    /// Lists that should be one.
    #[error("{key} has {len} entries for {tokens} tokens")]
    Lengths {
        /// The list.
        key: &'static str,
        /// Its length.
        len: usize,
        /// The length of `tokenizer.ggml.tokens`.
        tokens: usize,
    },
    /// An id beyond the vocabulary.
    #[error("{key} is {id}, but there are {tokens} tokens")]
    NoSuchToken {
        /// The key.
        key: String,
        /// Its value.
        id: u32,
        /// The size of the vocabulary.
        tokens: usize,
    },
    /// A text could hold a byte for which there is nothing.
    #[error("the vocabulary has no token for byte 0x{byte:02X}")]
    NoByteToken {
        /// The byte.
        byte: u8,
    },
    /// A score is not a number.
    #[error("the score of token {id} is not a number")]
    Score {
        /// The token.
        id: u32,
    },
    /// A merge is not two parts.
    #[error("merge {rank} is {text:?}: it must be two parts with a space between")]
    Merge {
        /// Its number in `tokenizer.ggml.merges`.
        rank: u32,
        /// The merge.
        text: String,
    },
    /// BOS or EOS is wanted and not named.
    #[error("{flag} is true, but the file does not say which token that is")]
    NothingToAdd {
        /// The key that wants it.
        flag: &'static str,
    },
    /// An expression of ours is wrong.
    #[error("cannot compile the pre-tokenizer: {source}")]
    Expression {
        /// Why.
        source: regex::Error,
    },
    /// The special tokens are too many or too long.
    #[error("the names of the special tokens have {bytes} bytes: more than the limit of {limit}")]
    LongNames {
        /// All of them.
        bytes: usize,
        /// The most that is accepted.
        limit: usize,
    },
    /// The special tokens cannot be searched for.
    #[error("cannot prepare the search for special tokens: {source}")]
    Names {
        /// Why.
        source: aho_corasick::BuildError,
    },
}
