use std::fs::File;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;

use super::fetch::joined;
use super::{Access, Client, Event, OnEvent, Source, SourceError, fetch};
use crate::store::hash;
use crate::store::model::Model;

/// Where a model comes from, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceConfig {
    /// Where it comes from.
    pub source: Source,
    /// What it must hash to: hex, lower case.
    pub sha256: Option<String>,
    /// Token, certificates, time-outs.
    pub access: Access,
    /// Where `hf:` is.
    pub hub: String,
}

/// A model on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obtained {
    /// Its file, or the first of several.
    pub path: PathBuf,
    /// Its hash, where it had to be found out.
    pub sha256: Option<String>,
    /// Bytes that came over the network now.
    pub received: u64,
}

/// Gets a model: a file on this machine is used where it lies, all else is fetched into `dir`.
///
/// # Errors
/// See [`SourceError`].
pub async fn obtain(
    config: &SourceConfig,
    dir: &Path,
    on_event: OnEvent<'_>,
) -> Result<Obtained, SourceError> {
    let expected = config.sha256.as_deref();
    if let Source::File(path) = &config.source {
        // What is no model is not here.
        let model = path.clone();
        joined(spawn_blocking(move || Ok(Model::open(&model)?)).await)?;
        let sha256 = match expected {
            Some(expected) => Some(checked(path, expected).await?),
            None => None,
        };
        return Ok(Obtained { path: path.clone(), sha256, received: 0 });
    }
    let remote = config.source.remote(&config.hub)?;
    let remote = remote.ok_or_else(|| SourceError::Client("a file is not fetched".into()))?;
    let client = Client::new(&config.access)?;
    let fetched = fetch(&client, &remote, dir, expected, on_event).await?;
    on_event(Event::Bytes { done: fetched.bytes, total: Some(fetched.bytes) });
    let path = fetched.paths.into_iter().next().unwrap_or_else(|| dir.join(&remote.name));
    Ok(Obtained { path, sha256: Some(fetched.sha256), received: fetched.received })
}

/// The hash of the model at `path`, which must be this one.
async fn checked(path: &Path, expected: &str) -> Result<String, SourceError> {
    let (path, expected) = (path.to_owned(), expected.to_owned());
    let hashed = spawn_blocking(move || {
        let mut hasher = Sha256::new();
        for part in Model::open(&path)?.paths {
            let read = File::open(&part).and_then(|file| hash::update(&mut hasher, file, |_| {}));
            read.map_err(|source| SourceError::Read { path: part, source })?;
        }
        let found = hash::finish(hasher);
        if found == expected { Ok(found) } else { Err(SourceError::OtherFile { path, found, expected }) }
    });
    joined(hashed.await)
}
