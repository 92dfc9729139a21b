use std::fmt;
use std::io;

use minijinja::{Error, ErrorKind};

use crate::gguf::GgufError;

/// Why there is no prompt.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The template's metadata is of another type.
    #[error("cannot read the chat template: {0}")]
    Metadata(#[from] GgufError),
    /// The file's template is longer than any.
    #[error("the chat template has {bytes} bytes: more than the limit of {limit}", limit = super::MAX_TEMPLATE)]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// There is no stack to compile it on.
    #[error("cannot start a thread to compile the chat template: {source}")]
    Thread {
        /// Why.
        source: io::Error,
    },
    /// The file's template is not one.
    #[error("cannot compile the chat template: line {line}: {source}")]
    Compile {
        /// Of the template.
        line: usize,
        /// Why.
        source: Error,
    },
    /// The template does not take this conversation, e.g. two messages of one speaker in a row: the caller's to mend.
    #[error("the model's chat template refuses the conversation: {message}")]
    Refused {
        /// What the template says.
        message: String,
    },
    /// The template fails.
    #[error("cannot render the chat template: line {line}: {source}")]
    Render {
        /// Of the template.
        line: usize,
        /// Why.
        source: Error,
    },
    /// The template takes too many instructions.
    #[error("the chat template does not end: more than {limit} instructions", limit = super::FUEL)]
    Endless,
    /// The text is beyond any context.
    #[error("the conversation is longer than {limit} bytes", limit = super::MAX_TEXT)]
    TooLong,
}

impl ChatError {
    pub(super) fn from_syntax(source: Error) -> Self {
        Self::Compile { line: source.line().unwrap_or_default(), source }
    }

    pub(super) fn from_render(source: Error) -> Self {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&source);
        while let Some(error) = cause {
            if let Some(Refusal(message)) = error.downcast_ref() {
                return Self::Refused { message: message.clone() };
            }
            cause = error.source();
        }
        match source.kind() {
            ErrorKind::OutOfFuel => Self::Endless,
            ErrorKind::WriteFailure => Self::TooLong,
            _ => Self::Render { line: source.line().unwrap_or_default(), source },
        }
    }
}

/// What `raise_exception` was called with.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}
