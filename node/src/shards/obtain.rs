//! The file of a shard: here and right, or fetched from peers.

use std::sync::Arc;

use shard_wire::pipeline::Download;
use thiserror::Error;
use tokio::sync::watch;

use super::table::Problem;
use crate::library::{Library, Verified};
use crate::report::{self, Console, Source};
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
    /// Tells the user.
    pub console: Console,
}

impl Obtain {
    pub(super) async fn file(
        &self,
        library: Arc<Library>,
        shard: u32,
        _progress: watch::Sender<Progress>,
    ) -> Result<(Verified, Source), ObtainError> {
        let here = self.here(Arc::clone(&library), shard).await?;
        Ok((self.named(here)?, Source::Command))
    }

    /// The file in the folder, if it is right.
    async fn here(&self, library: Arc<Library>, shard: u32) -> Result<Verified, ObtainError> {
        if let Ok(file) = library.file(shard) {
            let path = library.path(file);
            self.console.say(&match path.is_file() {
                true => report::tensor_load_begun(shard, file.size),
                false => report::shard_missing(shard, &path),
            });
        }
        let mut bar = self.console.bar();
        // The second half is to load it.
        Ok(serving::verify(library, shard, move |done, total| bar.load(shard, done, 2 * total)).await?)
    }

    fn named(&self, file: Verified) -> Result<Verified, ObtainError> {
        match &self.model_name {
            Some(given) if *given != file.name => {
                Err(ObtainError::OtherModel { given: given.clone(), found: file.name })
            }
            _ => Ok(file),
        }
    }
}
