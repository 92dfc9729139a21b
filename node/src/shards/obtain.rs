//! The file of a shard: here and right, or fetched from peers.

use std::sync::Arc;

use shard_wire::pipeline::Download;
use thiserror::Error;
use tokio::sync::watch;

use super::table::Problem;
use crate::library::{Library, Verified};
use crate::serving::{self, LoadShardError};

/// Why a shard's file is not there.
#[derive(Debug, Error)]
pub enum ObtainError {
    /// What is here cannot be used, and peers cannot help.
    #[error(transparent)]
    Local(#[from] LoadShardError),
    /// The user expects another model.
    #[error(
        "--model-name says {given}, the file says {found}: leave the flag out, or use the files of that model"
    )]
    OtherModel {
        /// What the flag says.
        given: String,
        /// What the file says.
        found: String,
    },
}

impl ObtainError {
    pub(super) fn problem(&self) -> Problem {
        Problem::new(self.to_string())
    }
}

/// What is being done for a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// What is here is hashed.
    Verifying,
    /// It comes from peers.
    Fetching(Download),
}

/// Finds the files of shards.
#[derive(Clone)]
pub struct Obtain {
    /// What the model must be called.
    pub model_name: Option<String>,
}

impl Obtain {
    pub(super) async fn file(
        &self,
        library: Arc<Library>,
        shard: u32,
        _progress: watch::Sender<Progress>,
    ) -> Result<Verified, ObtainError> {
        let here = serving::verify(library, shard, |_, _| {}).await;
        let file = here?;
        match &self.model_name {
            Some(given) if *given != file.name => {
                Err(ObtainError::OtherModel { given: given.clone(), found: file.name })
            }
            _ => Ok(file),
        }
    }
}
