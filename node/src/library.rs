//! The model files of one node: the manifest in its folder, and the files that it names and that are there whole.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use shard_engine::config::{ConfigError, ModelConfig};
use shard_engine::gguf::{Gguf, GgufError};
use shard_wire::frame;
use shard_wire::layers::LayerRange;
use shard_wire::manifest::{self, Manifest, ManifestError};
use thiserror::Error;

use crate::net::hex;
use crate::store::{hash, leftover};

/// Why a node cannot use its files.
#[derive(Debug, Error)]
pub enum LibraryError {
    /// There is no manifest.
    #[error("{path}: {source}; make it with `shardctl split MODEL.gguf --shards N --out DIR`")]
    NoManifest {
        /// Where it was looked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The manifest cannot be written.
    #[error("{path}: {source}: the folder has to be writable for what peers give")]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The manifest is not one.
    #[error("{path}: {source}")]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ManifestError,
    },
    /// The plan has fewer shards.
    #[error("shard {shard} of a plan of {count} shards: ids go from 0 to {}", count - 1)]
    NoSuchShard {
        /// The shard asked for.
        shard: u32,
        /// What the manifest has.
        count: usize,
    },
    /// The file is not there, or cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no shard.
    #[error("{path}: {source}")]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: GgufError,
    },
    /// The file describes no model that we run.
    #[error("{path}: {source}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ConfigError,
    },
    /// The file is a shard of something else.
    #[error(
        "{path}: its {what} is {found}, the manifest beside it says {expected}: it is of another split or another model"
    )]
    Other {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// In the file.
        found: String,
        /// In the manifest.
        expected: String,
    },
    /// The bytes differ.
    #[error(
        "{path}: SHA-256 is {found}, the manifest says {expected}: the file is corrupt; split or fetch it again"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Of the file.
        found: String,
        /// In the manifest.
        expected: String,
    },
}

/// The manifest of a folder, and its name.
#[derive(Clone, Debug)]
pub struct Library {
    dir: PathBuf,
    /// The manifest.
    pub manifest: Manifest,
    /// Its bytes, as they are hashed.
    pub bytes: Vec<u8>,
    /// Hex SHA-256 of the bytes.
    pub sha256: String,
    /// Short name of the plan.
    pub plan: String,
}

/// Short name of a plan: 16 hex digits of a hash over model, manifest, layer starts and wire version.
pub fn plan_name(manifest: &Manifest, manifest_sha256: &str, wire: u8) -> String {
    let starts: Vec<String> = manifest.layer_starts.iter().map(u32::to_string).collect();
    let text = format!("{}\n{manifest_sha256}\n{}\n{wire}\n", manifest.model_sha256, starts.join(","));
    hex::encode(&Sha256::digest(text.as_bytes())[..8])
}

/// Hex SHA-256 of a manifest's bytes.
pub fn manifest_sha256(manifest: &Manifest) -> String {
    // One that was read or made here has bytes.
    hash::sha256(&manifest.to_bytes().unwrap_or_default())
}

/// A manifest that was received for a plan of this wire version.
///
/// # Errors
/// Where it is no manifest; `Ok(None)` where it is another plan's.
pub fn manifest_of_plan(bytes: &[u8], plan: &str, wire: u8) -> Result<Option<Manifest>, ManifestError> {
    let manifest = Manifest::from_bytes(bytes)?;
    let sha256 = hash::sha256(bytes);
    Ok((plan_name(&manifest, &sha256, wire) == plan).then_some(manifest))
}

impl Library {
    /// Reads the manifest of a folder.
    ///
    /// # Errors
    /// Where there is none, or it is not one.
    pub fn open(dir: &Path) -> Result<Self, LibraryError> {
        let path = dir.join(manifest::FILE_NAME);
        let no_manifest = |source| LibraryError::NoManifest { path: path.clone(), source };
        let file = File::open(&path).map_err(no_manifest)?;
        let mut bytes = Vec::new();
        file.take(manifest::MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(no_manifest)?;
        let manifest =
            Manifest::from_bytes(&bytes).map_err(|source| LibraryError::Manifest { path, source })?;
        Ok(Self::new(dir, manifest, bytes))
    }

    fn new(dir: &Path, manifest: Manifest, bytes: Vec<u8>) -> Self {
        let sha256 = hash::sha256(&bytes);
        let plan = plan_name(&manifest, &sha256, frame::VERSION);
        Self { dir: dir.to_owned(), manifest, bytes, sha256, plan }
    }

    /// Makes a manifest the folder's. The one of another plan stays beside it, as `manifest-{plan}.json`: its files may
    /// hold pieces of the new ones.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn adopt(dir: &Path, manifest: Manifest) -> Result<Self, LibraryError> {
        let path = dir.join(manifest::FILE_NAME);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| LibraryError::Write { path, source }
        };
        // One that was received as such has bytes.
        let bytes =
            manifest.to_bytes().map_err(|source| LibraryError::Manifest { path: path.clone(), source })?;
        std::fs::create_dir_all(dir).map_err(failed(dir))?;
        if let Ok(old) = Self::open(dir) {
            let aside = leftover::manifest_path(dir, &old.plan);
            std::fs::rename(&path, &aside).map_err(failed(&aside))?;
        }
        // Nodes may share a folder.
        let part = dir.join(format!("{}.{}.part", manifest::FILE_NAME, std::process::id()));
        std::fs::write(&part, &bytes).map_err(failed(&part))?;
        std::fs::rename(&part, &path).map_err(failed(&path))?;
        Ok(Self::new(dir, manifest, bytes))
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Shards of the plan.
    pub fn shard_count(&self) -> u32 {
        self.manifest.layer_starts.len() as u32
    }

    /// Where a file of the manifest is, or would be.
    pub fn path(&self, file: &manifest::File) -> PathBuf {
        self.dir.join(&file.name)
    }

    /// The layers of a shard.
    ///
    /// # Errors
    /// Where the plan has no such shard.
    pub fn layers(&self, shard: u32) -> Result<LayerRange, LibraryError> {
        self.file(shard).map(manifest::File::layers)
    }

    /// The model's name, as the first file of the manifest that is here has it.
    pub fn model_name(&self) -> Option<String> {
        let here = self.manifest.files.iter().map(|file| self.path(file)).find(|path| path.is_file())?;
        Gguf::open(&here).ok().map(|gguf| model_name(&gguf))
    }

    /// What a shard's file says of itself.
    ///
    /// # Errors
    /// Where it is missing or no GGUF file.
    pub fn header(&self, shard: u32) -> Result<Gguf, LibraryError> {
        let path = self.path(self.file(shard)?);
        Gguf::open(&path).map_err(|source| LibraryError::Gguf { path, source })
    }

    /// The manifest's entry of a shard.
    ///
    /// # Errors
    /// Where the plan has no such shard.
    pub fn file(&self, shard: u32) -> Result<&manifest::File, LibraryError> {
        let count = self.manifest.layer_starts.len();
        let file = self.manifest.file(&manifest::shard_name(shard as usize));
        file.filter(|_| (shard as usize) < count).ok_or(LibraryError::NoSuchShard { shard, count })
    }

    /// Finds the file of a shard, reads what it says of itself, and hashes it. `progress` gets bytes done and in all.
    ///
    /// # Errors
    /// Where it is missing, of another split or another model, or corrupt.
    pub fn verify_shard(
        &self,
        shard: u32,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Verified, LibraryError> {
        let file = self.file(shard)?;
        let path = self.path(file);
        let gguf = self.header(shard)?;
        let config = ModelConfig::read(std::slice::from_ref(&gguf))
            .map_err(|source| LibraryError::Config { path: path.clone(), source })?;
        let other = |what, found: String, expected: String| {
            let path = path.clone();
            if found == expected { Ok(()) } else { Err(LibraryError::Other { path, what, found, expected }) }
        };
        let info = config.shard.as_ref();
        let said = |value: Option<String>| value.unwrap_or_else(|| "absent".into());
        other("model", said(info.map(|i| i.model_sha256.clone())), self.manifest.model_sha256.clone())?;
        other("shard count", said(info.map(|i| i.count.to_string())), self.shard_count().to_string())?;
        other("shard id", said(info.map(|i| i.id.to_string())), shard.to_string())?;
        let range = |layers: std::ops::Range<u32>| format!("{}-{}", layers.start, layers.end);
        other("layer range", range(config.layers.clone()), range(file.start..file.end))?;
        let found = hash_file(&path, file.size, progress)
            .map_err(|source| LibraryError::Read { path: path.clone(), source })?;
        if found != file.sha256 {
            return Err(LibraryError::Corrupt { path, found, expected: file.sha256.clone() });
        }
        Ok(Verified { path, size: file.size, name: model_name(&gguf), config })
    }
}

/// A shard file that is whole and of this plan.
#[derive(Clone, Debug)]
pub struct Verified {
    /// The file.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Name of the model.
    pub name: String,
    /// Its hyperparameters.
    pub config: ModelConfig,
}

/// The model's name as its file has it, as an identifier: lower case, a dash for everything else.
pub fn model_name(gguf: &Gguf) -> String {
    let said = gguf.metadata.get::<&str>("general.name").ok().flatten().unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' };
    let slug: String = said.chars().take(64).map(plain).collect();
    let slug = slug.trim_matches('-');
    if slug.is_empty() { "model".into() } else { slug.into() }
}

fn hash_file(path: &Path, size: u64, progress: &mut dyn FnMut(u64, u64)) -> io::Result<String> {
    let mut done = 0;
    hash::file(path, |more| {
        done += more;
        progress(done, size.max(done));
    })
}
