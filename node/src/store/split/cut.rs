//! What a split and the views of a model share: which bytes go into which file, and what the manifest says of them.
//!
//! ```text
//!  open ─▶ layout (pure) ─▶ hash of the model ─▶ describe(file): header, zeros, tensors, zeros ─▶ manifest::File
//!                                                   │ every byte in order
//!                                                   ▼
//!                                                 sink: a file that is written, or nothing
//! ```

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use shard_engine::layout::{FileKind, FileLayout, Layout};
use shard_wire::layers::{LayerRange, even_starts, ranges};
use shard_wire::manifest::{self, Manifest, PIECE_SIZE, Piece, Tensor};

use super::{OnProgress, Shards, SplitError, Step};
use crate::store::hash;
use crate::store::model::Model;

/// More would wait for the disk, and each holds a header and a piece.
const MAX_THREADS: usize = 4;

/// A model, opened and laid out.
#[derive(Debug)]
pub(in crate::store) struct Cut {
    model: Model,
    parts: Parts,
    layout: Layout,
    starts: Vec<u32>,
    model_sha256: String,
    /// The header that was made last: it may have megabytes, and whoever asks for a piece of one asks for the next.
    header: Mutex<Option<(usize, Arc<Vec<u8>>)>>,
}

impl Cut {
    /// Opens the model at `path`, lays it out, and hashes it where its hash is not known.
    pub(in crate::store) fn open(
        path: &Path,
        shards: &Shards,
        known_sha256: Option<&str>,
        progress: OnProgress<'_>,
    ) -> Result<Self, SplitError> {
        let model = Model::open(path)?;
        let starts = match shards {
            Shards::Count(shards) => even_starts(model.config.block_count, *shards)?,
            Shards::Starts(starts) => starts.clone(),
        };
        let layers = ranges(&starts, model.config.block_count)?;
        let layout = Layout::new(&model.parts, &layers.iter().map(|r| r.start..r.end).collect::<Vec<_>>())?;
        let parts = Parts::open(&model)?;
        let model_sha256 = match known_sha256 {
            Some(sha256) => sha256.to_owned(),
            None => parts.hash(progress)?,
        };
        Ok(Self { model, parts, layout, starts, model_sha256, header: Mutex::new(None) })
    }

    /// Hex SHA-256 of the model.
    pub(in crate::store) fn model_sha256(&self) -> &str {
        &self.model_sha256
    }

    /// First layer of every shard.
    pub(in crate::store) fn starts(&self) -> &[u32] {
        &self.starts
    }

    /// The shards in order, then the tokenizer.
    pub(in crate::store) fn files(&self) -> &[FileLayout] {
        &self.layout.files
    }

    /// Bytes of all files.
    pub(in crate::store) fn bytes(&self) -> u64 {
        self.layout.files.iter().map(|file| file.file_bytes).sum()
    }

    /// The header of the file with this index.
    pub(in crate::store) fn header(&self, index: usize) -> Result<Arc<Vec<u8>>, SplitError> {
        let mut last = self.header.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, header)) = &*last
            && *of == index
        {
            return Ok(Arc::clone(header));
        }
        let file = &self.layout.files[index];
        let header = Arc::new(self.layout.header(&self.model.parts, file, &self.model_sha256)?);
        *last = Some((index, Arc::clone(&header)));
        Ok(header)
    }

    /// Hands every byte of a file to `sink`, in order, and says what the manifest says of it.
    pub(in crate::store) fn describe(
        &self,
        index: usize,
        on_bytes: impl Fn(u64),
        sink: impl FnMut(&[u8]) -> Result<(), SplitError>,
    ) -> Result<manifest::File, SplitError> {
        let layout = &self.layout.files[index];
        let mut out = Out { sink, hasher: Sha256::new(), position: 0, pieces: Vec::new() };
        out.piece(&self.layout.header(&self.model.parts, layout, &self.model_sha256)?)?;
        on_bytes(out.position);
        let mut tensors = Vec::with_capacity(layout.tensors.len());
        let mut buffer = vec![0; PIECE_SIZE as usize];
        for tensor in &layout.tensors {
            out.pad_to(tensor.offset)?;
            let mut hasher = Sha256::new();
            for (offset, size) in manifest::cut_tensor(tensor.part_offset, tensor.bytes) {
                let piece = &mut buffer[..size as usize];
                self.parts.read_at(tensor.part, offset, piece).map_err(|source| SplitError::Read {
                    path: self.parts.0[tensor.part].path.clone(),
                    source,
                })?;
                hasher.update(&piece);
                out.piece(piece)?;
                on_bytes(size);
            }
            let sha256 = hash::finish(hasher);
            let name = tensor.name.clone();
            tensors.push(Tensor { name, offset: tensor.offset, size: tensor.bytes, sha256 });
        }
        out.pad_to(layout.file_bytes)?;
        let LayerRange { start, end } = layer_range(&layout.kind);
        Ok(manifest::File {
            name: file_name(&layout.kind),
            size: out.position,
            sha256: hash::finish(out.hasher),
            start,
            end,
            tensors,
            pieces: out.pieces,
        })
    }

    /// The manifest of these files, if the model is still what was hashed: otherwise they are of no one model.
    pub(in crate::store) fn manifest(&self, files: Vec<manifest::File>) -> Result<Manifest, SplitError> {
        for part in &self.parts.0 {
            part.check().map_err(|source| match source.kind() {
                io::ErrorKind::InvalidData => SplitError::Changed { path: part.path.clone() },
                _ => SplitError::Read { path: part.path.clone(), source },
            })?;
        }
        Ok(Manifest {
            version: manifest::VERSION,
            model_sha256: self.model_sha256.clone(),
            model_bytes: self.model.bytes(),
            total_layers: self.model.config.block_count,
            layer_starts: self.starts.clone(),
            piece_size: PIECE_SIZE,
            files,
        })
    }

    /// Reads a range of a part of the model, if the part is still what was hashed.
    pub(in crate::store) fn read_unchanged(
        &self,
        part: usize,
        offset: u64,
        buffer: &mut [u8],
    ) -> io::Result<()> {
        self.parts.read_at(part, offset, buffer)?;
        self.parts.0[part].check()
    }
}

/// The name of the file in the folder and in the manifest.
pub(super) fn file_name(kind: &FileKind) -> String {
    match kind {
        FileKind::Shard { id, .. } => manifest::shard_name(*id as usize),
        FileKind::Tokenizer => manifest::TOKENIZER.to_owned(),
    }
}

fn layer_range(kind: &FileKind) -> LayerRange {
    match kind {
        FileKind::Shard { layers, .. } => LayerRange { start: layers.start, end: layers.end },
        FileKind::Tokenizer => LayerRange::default(),
    }
}

/// A file that grows, with what the manifest will say of it.
struct Out<S> {
    sink: S,
    hasher: Sha256,
    position: u64,
    pieces: Vec<Piece>,
}

impl<S: FnMut(&[u8]) -> Result<(), SplitError>> Out<S> {
    fn piece(&mut self, bytes: &[u8]) -> Result<(), SplitError> {
        let piece = Piece { offset: self.position, size: bytes.len() as u64, sha256: hash::sha256(bytes) };
        self.write(bytes)?;
        self.pieces.push(piece);
        Ok(())
    }

    /// Zeros up to `offset`: less than an alignment.
    fn pad_to(&mut self, offset: u64) -> Result<(), SplitError> {
        let zeros = vec![0; offset.saturating_sub(self.position) as usize];
        self.write(&zeros)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), SplitError> {
        (self.sink)(bytes)?;
        self.hasher.update(bytes);
        self.position += bytes.len() as u64;
        Ok(())
    }
}

/// The files of a model, opened once, so that all steps read the same ones.
#[derive(Debug)]
struct Parts(Vec<Part>);

#[derive(Debug)]
struct Part {
    path: PathBuf,
    file: File,
    bytes: u64,
    modified: SystemTime,
}

impl Parts {
    fn open(model: &Model) -> Result<Self, SplitError> {
        let part = |(path, header): (&PathBuf, &shard_engine::gguf::Gguf)| {
            let failed = |source| SplitError::Read { path: path.clone(), source };
            let file = File::open(path).map_err(failed)?;
            let modified = file.metadata().and_then(|about| about.modified()).map_err(failed)?;
            Ok(Part { path: path.clone(), file, bytes: header.file_bytes, modified })
        };
        model.paths.iter().zip(&model.parts).map(part).collect::<Result<_, _>>().map(Self)
    }

    /// SHA-256 of all parts, one after the other.
    fn hash(&self, progress: OnProgress<'_>) -> Result<String, SplitError> {
        let total = self.0.iter().map(|part| part.bytes).sum();
        let mut hasher = Sha256::new();
        for part in &self.0 {
            let read = hash::update(&mut hasher, &part.file, |n| progress(Step::Hash, n, total))
                .map_err(|source| SplitError::Read { path: part.path.clone(), source })?;
            if read != part.bytes {
                return Err(SplitError::Changed { path: part.path.clone() });
            }
        }
        Ok(hash::finish(hasher))
    }

    fn read_at(&self, part: usize, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0[part].file.read_exact_at(buffer, offset)
    }
}

impl Part {
    /// Nobody has written to it since it was opened.
    fn check(&self) -> io::Result<()> {
        let about = self.file.metadata()?;
        if about.len() == self.bytes && about.modified()? == self.modified {
            return Ok(());
        }
        let path = self.path.display();
        Err(io::Error::new(io::ErrorKind::InvalidData, format!("{path} has changed since it was hashed")))
    }
}

/// Runs `work` for every index below `count` on some threads; results in order, or the first failure.
pub(in crate::store) fn in_parallel<R: Send>(
    count: usize,
    work: impl Fn(usize) -> Result<R, SplitError> + Sync,
) -> Result<Vec<R>, SplitError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS).min(count);
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                return Ok(done);
            }
            match work(i) {
                Ok(result) => done.push((i, result)),
                Err(error) => {
                    // Nobody begins another item.
                    next.store(count, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
    };
    let mut all = Vec::with_capacity(count);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        for handle in workers {
            match handle.join() {
                Ok(done) => all.extend(done?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok::<(), SplitError>(())
    })?;
    all.sort_by_key(|(i, _)| *i);
    Ok(all.into_iter().map(|(_, result)| result).collect())
}
