//! The state folder of `up`:
//!
//! ```text
//!  STATE/lock                   held while shards are made
//!  STATE/cluster-secret         what the fleet's members know, mode 0600: kept, so that tools can be told once
//!  STATE/MODEL-HASH-N/          manifest.json, tokenizer.gguf, shard-0.gguf …: kept
//!  STATE/run-PID/               links named as the programs, one log each: removed when the run ends well,
//!                               else by the next one
//! ```

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process;

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::run_folder::RunFolder;
use crate::cli::split::with_progress;
use crate::net::hex;
use crate::net::secret::MIN_SECRET_BYTES;
use crate::store::split::{Shards, SplitError, SplitRequest, split};

/// Beside the repository's README.
const MODELS: &str = "models_cache";
const DEFAULT_MODEL: &str = "tiny-tales-f16.gguf";

/// Why a fleet has no place or no model.
#[derive(Debug, Error)]
pub(in crate::cli) enum HomeError {
    /// The default model is not near.
    #[error(
        "{MODELS}/{DEFAULT_MODEL} is neither in this folder, nor above it, nor above the executable: run this in the repository, or give --model FILE"
    )]
    NoDefault,
    /// The model is not there.
    #[error("cannot open the model {}: {source}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The state folder does not take what it must hold.
    #[error("cannot use the state folder: {action} {}: {source}; give another one with --state DIR", path.display())]
    State {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The model cannot be cut.
    #[error("cannot split {}", model.display())]
    Split {
        /// The model.
        model: PathBuf,
        /// Why.
        source: Box<SplitError>,
    },
}

/// Where a fleet's files are.
#[derive(Debug)]
pub(in crate::cli) struct Home {
    /// The state folder.
    pub(in crate::cli) state: PathBuf,
    /// The model's shards.
    pub(in crate::cli) shards: PathBuf,
    /// The file with the cluster secret.
    pub(in crate::cli) secret: PathBuf,
    /// Links and logs of this run.
    pub(in crate::cli) run: PathBuf,
    folder: RunFolder,
}

impl Home {
    /// Finds the model, splits it where that has not been done, and makes the folder of this run.
    pub(in crate::cli) fn prepare(
        model: Option<&Path>,
        state: Option<&Path>,
        cut: &Shards,
    ) -> Result<Self, HomeError> {
        let model = match model {
            Some(model) => model.to_owned(),
            None => default_model().ok_or(HomeError::NoDefault)?,
        };
        let model = fs::canonicalize(&model).map_err(|source| HomeError::Model { path: model, source })?;
        let state = state.map_or_else(default_state, Path::to_owned);
        make(&state)?;
        // Programs get this path, whatever their working directory.
        let state = fs::canonicalize(&state).map_err(failed("resolve", &state))?;
        let shards = state.join(shards_name(&model, cut));

        let lock_path = state.join("lock");
        let lock = File::create(&lock_path).map_err(failed("create", &lock_path))?;
        lock.lock().map_err(failed("lock", &lock_path))?;
        make_shards(&model, cut, &shards)?;
        let secret = state.join("cluster-secret");
        make_secret(&secret).map_err(failed("write", &secret))?;

        let folder = RunFolder::make(&state)?;
        drop(lock);
        Ok(Self { state, shards, secret, run: folder.path.clone(), folder })
    }

    /// Removes what only this run needed.
    pub(in crate::cli) fn forget(self) {
        self.folder.forget();
    }
}

/// Makes the shards, or checks those that are there. The folder is this model's alone: what else is in it is replaced.
fn make_shards(model: &Path, cut: &Shards, out: &Path) -> Result<(), HomeError> {
    let request = SplitRequest { model, out, shards: cut.clone(), force: true };
    let done = with_progress(|progress| split(&request, progress));
    done.map(drop).map_err(|source| HomeError::Split { model: model.to_owned(), source: Box::new(source) })
}

/// Makes a cluster secret where there is none. The state folder is locked, so nobody else does.
fn make_secret(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let mut secret = [0; MIN_SECRET_BYTES];
    getrandom::fill(&mut secret).map_err(io::Error::other)?;
    // Renamed when it is whole: half a secret would be kept for ever.
    let beside = path.with_extension(process::id().to_string());
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(format!("{}\n", hex::encode(&secret)).as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

/// Tells models of one name apart, and cuts of one model.
fn shards_name(model: &Path, cut: &Shards) -> String {
    let stem = model.file_stem().unwrap_or_default().to_string_lossy();
    let digest = Sha256::digest(model.as_os_str().as_encoded_bytes());
    let hash: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    match cut {
        Shards::Count(shards) => format!("{stem}-{hash}-{shards}"),
        Shards::Starts(starts) => {
            let starts: Vec<String> = starts.iter().map(u32::to_string).collect();
            format!("{stem}-{hash}-at-{}", starts.join("-"))
        }
    }
}

fn default_model() -> Option<PathBuf> {
    models_folder().map(|folder| folder.join(DEFAULT_MODEL))
}

fn default_state() -> PathBuf {
    models_folder().unwrap_or_else(|| MODELS.into()).join("up")
}

/// The folder with the default model, in or above the working directory or the executable's.
fn models_folder() -> Option<PathBuf> {
    let from = [env::current_dir().ok(), env::current_exe().ok()];
    let folders = from.iter().flatten().flat_map(|path| path.ancestors());
    folders.map(|folder| folder.join(MODELS)).find(|models| models.join(DEFAULT_MODEL).is_file())
}

pub(super) fn make(folder: &Path) -> Result<(), HomeError> {
    fs::create_dir_all(folder).map_err(failed("create", folder))
}

pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HomeError {
    let path = path.to_owned();
    move |source| HomeError::State { action, path, source }
}
