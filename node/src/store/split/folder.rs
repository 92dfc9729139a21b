//! The folder of a split: what is in it, and how new files take the place of old ones.

use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use shard_engine::config::MODEL_SHA256;
use shard_engine::gguf::Gguf;
use shard_engine::layout::FileKind;
use shard_wire::manifest::{self, Manifest};

use super::copy::{Partial, TEMPORARY};
use super::cut::{file_name, in_parallel};
use super::{Job, SplitError, Step};
use crate::store::hash;

/// A folder that no other split writes to.
pub(super) struct Folder {
    path: PathBuf,
    /// Locked while it is open.
    handle: File,
}

/// What a folder has before a split.
pub(super) struct Old {
    /// A manifest that can be read, of whichever model.
    manifest: Option<Manifest>,
    /// A file in the way that is not of this model, and what it is.
    foreign: Option<(PathBuf, String)>,
}

impl Folder {
    /// Makes the folder where it is missing, and locks it.
    pub(super) fn open(path: &Path) -> Result<Self, SplitError> {
        let failed = |source| SplitError::Folder { path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(failed)?;
        let handle = File::open(path).map_err(failed)?;
        match handle.try_lock() {
            Err(TryLockError::WouldBlock) => Err(SplitError::Busy { path: path.to_owned() }),
            // Some network file systems cannot lock folders; there the user has to take care.
            Err(TryLockError::Error(_)) | Ok(()) => Ok(Self { path: path.to_owned(), handle }),
        }
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Removes what a split that was killed has left.
    pub(super) fn sweep(&self) -> Result<(), SplitError> {
        let failed = |source| SplitError::Folder { path: self.path.clone(), source };
        for entry in std::fs::read_dir(&self.path).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.as_os_str().to_string_lossy().ends_with(TEMPORARY) {
                remove(&path).map_err(|source| SplitError::Publish { path, source })?;
            }
        }
        Ok(())
    }

    /// Looks at the manifest and at every file that the split would write.
    pub(super) fn look(&self, job: &Job<'_>) -> Result<Old, SplitError> {
        let path = self.file(manifest::FILE_NAME);
        let (manifest, mut foreign) = match read_manifest(&path)? {
            None => (None, None),
            Some(Err(error)) => (None, Some((path, format!("is there and is none of ours ({error})")))),
            Some(Ok(manifest)) if manifest.model_sha256 == job.cut.model_sha256() => (Some(manifest), None),
            Some(Ok(manifest)) => {
                let why = format!("lists the shards of another model (SHA-256 {})", manifest.model_sha256);
                (Some(manifest), Some((path, why)))
            }
        };
        for layout in job.cut.files() {
            let name = file_name(&layout.kind);
            let path = self.file(&name);
            let is_listed = manifest.as_ref().is_some_and(|manifest| manifest.file(&name).is_some());
            if foreign.is_some() || is_listed || !path.exists() {
                continue;
            }
            // Left by a split that was stopped while it published, or fetched from peers: ours if it says so.
            let is_ours = Gguf::open(&path).is_ok_and(|gguf| match layout.kind {
                FileKind::Shard { .. } => model_of(&gguf) == Some(job.cut.model_sha256()),
                FileKind::Tokenizer => gguf.file_bytes == layout.file_bytes && gguf.tensors.is_empty(),
            });
            if !is_ours {
                foreign = Some((path, "is there and is not of this model".to_owned()));
            }
        }
        Ok(Old { manifest, foreign })
    }

    /// Gives all files their final names. A manifest is there only while all its files are.
    pub(super) fn publish(
        &self,
        partials: Vec<Partial>,
        manifest: &[u8],
        stale: &[String],
    ) -> Result<(), SplitError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| SplitError::Publish { path, source }
        };
        let path = self.file(manifest::FILE_NAME);
        let mut last = Partial::create(path.clone()).map_err(failed(&path))?;
        last.write_all(manifest).and_then(|()| last.sync()).map_err(failed(last.path()))?;

        remove(&path).map_err(failed(&path))?;
        for partial in partials {
            let target = partial.target().to_owned();
            partial.publish().map_err(failed(&target))?;
        }
        for name in stale {
            let path = self.file(name);
            remove(&path).map_err(failed(&path))?;
        }
        self.sync()?;
        last.publish().map_err(failed(&path))?;
        self.sync()
    }

    /// Renames reach the disk.
    fn sync(&self) -> Result<(), SplitError> {
        self.handle.sync_all().map_err(|source| SplitError::Folder { path: self.path.clone(), source })
    }
}

impl Old {
    /// The manifest that is there, if it is what this split would write and all its files are whole.
    pub(super) fn reusable(&self, job: &Job<'_>, folder: &Folder) -> Result<Option<Manifest>, SplitError> {
        let Some(manifest) = &self.manifest else { return Ok(None) };
        let cut = job.cut;
        let fits = manifest.model_sha256 == cut.model_sha256() && manifest.layer_starts == cut.starts();
        if !fits || self.foreign.is_some() {
            return Ok(None);
        }
        for (i, (file, layout)) in manifest.files.iter().zip(cut.files()).enumerate() {
            // Another version of this program may have laid it out otherwise.
            let header = hash::sha256(&cut.header(i)?);
            let piece = file.pieces.first().map(|piece| &piece.sha256);
            let on_disk = std::fs::metadata(folder.file(&file.name)).map(|about| about.len());
            if piece != Some(&header) || file.size != layout.file_bytes || on_disk.ok() != Some(file.size) {
                return Ok(None);
            }
        }
        let whole = in_parallel(manifest.files.len(), |i| {
            let file = &manifest.files[i];
            let path = folder.file(&file.name);
            let failed = |source| SplitError::Read { path: path.clone(), source };
            let mut hasher = Sha256::new();
            let input = File::open(&path).map_err(failed)?;
            hash::update(&mut hasher, input, |n| (job.progress)(Step::Verify, n, cut.bytes()))
                .map_err(failed)?;
            Ok(hash::finish(hasher) == file.sha256)
        })?;
        Ok(whole.into_iter().all(|is_whole| is_whole).then(|| manifest.clone()))
    }

    /// Only shards of the same model are replaced without `force`.
    pub(super) fn may_be_replaced(&self, force: bool) -> Result<(), SplitError> {
        match &self.foreign {
            Some((path, why)) if !force => Err(SplitError::Foreign { path: path.clone(), why: why.clone() }),
            _ => Ok(()),
        }
    }

    /// Files of the old manifest that the new one does not have.
    pub(super) fn stale(&self, new: &Manifest) -> Vec<String> {
        let old = self.manifest.iter().flat_map(|manifest| &manifest.files);
        old.filter(|file| new.file(&file.name).is_none()).map(|file| file.name.clone()).collect()
    }
}

/// `None` where there is no manifest.
fn read_manifest(path: &Path) -> Result<Option<Result<Manifest, manifest::ManifestError>>, SplitError> {
    let failed = |source| SplitError::Read { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(manifest::MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(Manifest::from_bytes(&bytes)))
}

/// The model that a shard file says it was cut from.
fn model_of(shard: &Gguf) -> Option<&str> {
    shard.metadata.get::<&str>(MODEL_SHA256).ok().flatten()
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
