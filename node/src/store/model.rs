//! A model on disk: one GGUF file, or the parts `NAME-00001-of-00003.gguf` … of one, found beside the first.

use std::path::{Path, PathBuf};

use shard_engine::config::{ConfigError, ModelConfig};
use shard_engine::gguf::{Gguf, GgufError};

/// A whole model, its headers read and checked.
#[derive(Clone, Debug)]
pub struct Model {
    /// Of every part, in order.
    pub paths: Vec<PathBuf>,
    /// The header of every part, in order.
    pub parts: Vec<Gguf>,
    /// What the headers describe.
    pub config: ModelConfig,
}

/// Why a file is not a model that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Its header is wrong.
    #[error("{path}: {source}", path = path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: GgufError,
    },
    /// Its header describes no model that the engine runs.
    #[error("{path}: {source}", path = path.display())]
    Config {
        /// The file, or the first part.
        path: PathBuf,
        /// What is wrong.
        source: ConfigError,
    },
    /// Another part than the first was given.
    #[error("{path} is part {number} of {count} of a model: give the first part", path = path.display())]
    NotFirst {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        number: u32,
        /// Parts of the model.
        count: u32,
    },
    /// The other parts cannot be found by its name.
    #[error(
        "{path} is the first of {count} parts of a model, but is not called NAME-00001-of-{count:05}.gguf: the others cannot be found",
        path = path.display()
    )]
    PartName {
        /// The file.
        path: PathBuf,
        /// Parts of the model.
        count: u32,
    },
}

impl Model {
    /// Reads and checks the headers of the model at `path`: its file, or its first part.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let first = read_header(path)?;
        let paths = part_paths(path, &first)?;
        let mut parts = vec![first];
        for path in paths.iter().skip(1) {
            parts.push(read_header(path)?);
        }
        let config = ModelConfig::read(&parts)
            .map_err(|source| ModelError::Config { path: path.to_owned(), source })?;
        Ok(Self { paths, parts, config })
    }

    /// Size of all parts.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.file_bytes).sum()
    }
}

fn read_header(path: &Path) -> Result<Gguf, ModelError> {
    Gguf::open(path).map_err(|source| ModelError::Header { path: path.to_owned(), source })
}

/// The files of all parts, `path` being the first: `split.count` says how many there are.
fn part_paths(path: &Path, first: &Gguf) -> Result<Vec<PathBuf>, ModelError> {
    let number = |key: &str| match first.metadata.get::<u32>(key) {
        Ok(value) => Ok(value.unwrap_or(0)),
        Err(source) => Err(ModelError::Header { path: path.to_owned(), source }),
    };
    let (count, index) = (number("split.count")?, number("split.no")?);
    if count <= 1 {
        return Ok(vec![path.to_owned()]);
    }
    if index != 0 {
        return Err(ModelError::NotFirst { path: path.to_owned(), number: index.saturating_add(1), count });
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some(stem) = name.strip_suffix(&format!("-00001-of-{count:05}.gguf")) else {
        return Err(ModelError::PartName { path: path.to_owned(), count });
    };
    // llama.cpp counts in 16 bits; `read_header` stops at the first part that is not there.
    let count = count.min(u32::from(u16::MAX));
    Ok((1..=count).map(|i| path.with_file_name(format!("{stem}-{i:05}-of-{count:05}.gguf"))).collect())
}
