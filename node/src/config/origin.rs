use std::path::PathBuf;

pub use crate::store::source::SourceConfig;
use crate::store::split::Shards;

/// What a bootstrap gives to nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginConfig {
    /// A model that is split already: the folder with its manifest and shards.
    Split(PathBuf),
    /// A model, as views of its file.
    Model {
        /// Where it comes from.
        source: Box<SourceConfig>,
        /// How to cut it.
        shards: Shards,
        /// Where it is kept, if it has to be fetched.
        dir: PathBuf,
    },
}
