use std::io;
use std::path::PathBuf;

use shard_engine::layout::LayoutError;
use shard_wire::layers::LayersError;
use shard_wire::manifest::ManifestError;

use crate::store::model::ModelError;

/// Why a model was not split. Nothing is left under a final name that is not whole.
#[derive(Debug, thiserror::Error)]
pub enum SplitError {
    /// The model cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The layers cannot be shared out like that.
    #[error(transparent)]
    Layers(#[from] LayersError),
    /// The model cannot be cut.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The manifest cannot be made.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The folder for the shards cannot be used.
    #[error("cannot use the folder {path}: {source}", path = path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another split writes to the folder.
    #[error("another program is splitting a model into {path}: wait for it, or choose another --out", path = path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// The folder has shards of something else.
    #[error("{path} {why}: it is kept (--force replaces it, another --out leaves it alone)", path = path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is.
        why: String,
    },
    /// The model, or a shard that is there, cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The model was written to meanwhile.
    #[error("{path} has changed while it was split: try again", path = path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A shard cannot be written.
    #[error("cannot write {path}: {source} (the split needs {needed} bytes in this folder)", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Bytes of all files.
        needed: u64,
        /// Why.
        source: io::Error,
    },
    /// A finished file cannot take its final name, or an old one cannot make room for it.
    #[error("cannot replace {path}: {source}", path = path.display())]
    Publish {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
