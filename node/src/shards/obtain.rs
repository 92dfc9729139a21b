//! The file of a shard: here and right, or fetched from peers.

use std::sync::Arc;

use shard_wire::manifest::shard_name;
use shard_wire::pipeline::Download;
use thiserror::Error;
use tokio::sync::watch;

use super::table::Problem;
use crate::fetching::{FetchError, Fetcher};
use crate::library::{Library, Verified};
use crate::report::{self, Console, Source};
use crate::serving::{self, LoadShardError};

/// Why a shard's file is not there.
#[derive(Debug, Error)]
pub(super) enum ObtainError {
    /// The plan has no such shard, or what was fetched is not it.
    #[error(transparent)]
    Local(#[from] LoadShardError),
    /// It is not here, or wrong, and could not be fetched.
    #[error("{path}: {here}; {source}")]
    Fetch {
        /// Where it should be.
        path: std::path::PathBuf,
        /// What is wrong with what is here.
        here: String,
        /// Why it was not fetched.
        source: FetchError,
    },
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
        let not_found = matches!(self, Self::Fetch { source: FetchError::Nobody { .. }, .. });
        Problem { not_found, text: self.to_string() }
    }
}

/// What is being done for a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Progress {
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
    /// Gets what is not here.
    pub fetcher: Fetcher,
    /// Tells the user.
    pub console: Console,
}

impl Obtain {
    pub(super) async fn file(
        &self,
        library: Arc<Library>,
        shard: u32,
        progress: watch::Sender<Progress>,
        told: bool,
    ) -> Result<(Verified, Source), ObtainError> {
        let entry = library.file(shard).map_err(LoadShardError::from)?.clone();
        let path = library.path(&entry);
        let here = match path.is_file() {
            true => {
                self.console.say(&report::tensor_load_begun(shard, entry.size));
                match self.verified(&library, shard).await {
                    Ok(file) => return Ok((self.named(file)?, Source::Command)),
                    Err(error) => error.to_string(),
                }
            }
            false => {
                if !told {
                    self.tell_if_missing(shard);
                }
                "it is not here".to_owned()
            }
        };
        progress.send_replace(Progress::Fetching(Download::default()));
        let told = |download| {
            progress.send_replace(Progress::Fetching(download));
        };
        self.fetcher.file(&library, &entry, told).await.map_err(|source| ObtainError::Fetch {
            path,
            here,
            source,
        })?;
        progress.send_replace(Progress::Verifying);
        self.console.say(&report::tensor_load_begun(shard, entry.size));
        let file = self.verified(&library, shard).await?;
        Ok((self.named(file)?, Source::Download))
    }

    /// Tells that the file of a shard is not here, where it is not. True where it is not.
    pub(super) fn tell_if_missing(&self, shard: u32) -> bool {
        let path = self.fetcher.downloads.folder().join(shard_name(shard as usize));
        let missing = !path.is_file();
        if missing {
            self.console.say(&report::shard_missing(shard, &path));
        }
        missing
    }

    async fn verified(&self, library: &Arc<Library>, shard: u32) -> Result<Verified, LoadShardError> {
        let mut bar = self.console.bar();
        // The second half is to load it.
        serving::verify(Arc::clone(library), shard, move |done, total| bar.load(shard, done, 2 * total)).await
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
