use crate::gguf::GgufError;

/// Why a GGUF file is not a model that this engine can run: the key or tensor, and the value that it has.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No file was given.
    #[error("no model file was given")]
    NoFile,
    /// A key is missing or of another type.
    #[error(transparent)]
    Metadata(#[from] GgufError),
    /// Another architecture.
    #[error("general.architecture is {found:?}: only \"llama\" is supported")]
    Architecture {
        /// The value in the file.
        found: String,
    },
    /// A mixture of experts.
    #[error("llama.expert_count is {experts}: mixtures of experts are not supported")]
    Experts {
        /// The value in the file.
        experts: u32,
    },
    /// A value that no model has.
    #[error("{key} is {value}: it must be {must}")]
    Value {
        /// The metadata key.
        key: String,
        /// The value in the file.
        value: String,
        /// What would be right.
        must: String,
    },
    /// A part of a multi-part file stands alone or in another's place.
    #[error(
        "file {index} of {given} says that it is part {number} of {count} (counted from 0): all parts are needed, in order"
    )]
    Part {
        /// Place among the files given.
        index: usize,
        /// Files given.
        given: usize,
        /// `split.no` in the file.
        number: u32,
        /// `split.count` in the file.
        count: u32,
    },
    /// A tensor that the layers need is not there.
    #[error("tensor {name:?} is missing: layers {start}-{end} of {block_count} need it")]
    MissingTensor {
        /// The tensor.
        name: String,
        /// First layer of the file.
        start: u32,
        /// One past the last layer of the file.
        end: u32,
        /// Layers of the model.
        block_count: u32,
    },
    /// A tensor has another shape than the hyperparameters say.
    #[error("tensor {name:?} has the shape {found:?}: the hyperparameters call for {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// Its dimensions, the row length first.
        found: Vec<u64>,
        /// The dimensions it should have.
        expected: Vec<u64>,
    },
    /// A tensor has a type that the engine cannot compute with.
    #[error("tensor {name:?} is of type {found}: supported are {supported}")]
    TensorType {
        /// The tensor.
        name: String,
        /// Its type.
        found: &'static str,
        /// The types it could have.
        supported: &'static str,
    },
    /// A tensor that the Llama architecture as we know it does not have, so that leaving it out would change answers.
    #[error(
        "tensor {name:?} is not one of a Llama model that this engine knows (biases, for one, are not supported)"
    )]
    UnknownTensor {
        /// The tensor.
        name: String,
    },
}

impl ConfigError {
    pub(super) fn value(key: &str, value: &dyn std::fmt::Display, must: impl Into<String>) -> Self {
        Self::Value { key: key.to_owned(), value: value.to_string(), must: must.into() }
    }
}
