use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use shard_engine::layout::{FileLayout, PlacedTensor};
use shard_wire::manifest::{self, PIECE_SIZE, Piece, Tensor};

use super::folder::Folder;
use super::{Job, SplitError, Step, file_name, layer_range};
use crate::store::hash;

/// Of names of files that are not whole yet: not `.gguf`, so that whoever looks for models passes them by.
pub(super) const TEMPORARY: &str = ".splitting";

/// A file under a temporary name: gone when dropped, unless it was given its final one.
pub(super) struct Partial {
    path: PathBuf,
    target: PathBuf,
    file: File,
    is_published: bool,
}

impl Partial {
    pub(super) fn create(target: PathBuf) -> io::Result<Self> {
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(TEMPORARY);
        let path = target.with_file_name(name);
        let file = File::create(&path)?;
        Ok(Self { path, target, file, is_published: false })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn target(&self) -> &Path {
        &self.target
    }

    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    pub(super) fn publish(mut self) -> io::Result<()> {
        std::fs::rename(&self.path, &self.target)?;
        self.is_published = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_published {
            // It is only a temporary file, and there is nobody to tell.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Writes one file under a temporary name and describes it.
pub(super) fn write_file(
    job: &Job<'_>,
    folder: &Folder,
    layout: &FileLayout,
) -> Result<(manifest::File, Partial), SplitError> {
    let name = file_name(&layout.kind);
    let target = folder.file(&name);
    let needed = job.bytes();
    let failed = |source| SplitError::Write { path: target.clone(), needed, source };
    let header = job.header(layout)?;
    let mut out = Writer {
        partial: Partial::create(target.clone()).map_err(failed)?,
        hasher: Sha256::new(),
        position: 0,
        pieces: Vec::new(),
    };
    out.piece(&header).map_err(failed)?;
    (job.progress)(Step::Copy, out.position, needed);

    let mut tensors = Vec::with_capacity(layout.tensors.len());
    let mut buffer = vec![0; PIECE_SIZE as usize];
    for tensor in &layout.tensors {
        out.pad_to(tensor.offset).map_err(failed)?;
        tensors.push(copy_tensor(job, tensor, &mut buffer, &mut out).map_err(|error| match error {
            CopyError::Read(source) => {
                SplitError::Read { path: job.source.parts[tensor.part].path.clone(), source }
            }
            CopyError::Write(source) => failed(source),
        })?);
    }
    out.pad_to(layout.file_bytes).map_err(failed)?;
    out.partial.sync().map_err(failed)?;
    let layers = layer_range(&layout.kind);
    let file = manifest::File {
        name,
        size: out.position,
        sha256: hash::finish(out.hasher),
        start: layers.start,
        end: layers.end,
        tensors,
        pieces: out.pieces,
    };
    Ok((file, out.partial))
}

enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

/// Copies a tensor piece by piece.
fn copy_tensor(
    job: &Job<'_>,
    tensor: &PlacedTensor,
    buffer: &mut [u8],
    out: &mut Writer,
) -> Result<Tensor, CopyError> {
    let source = &job.source.parts[tensor.part].file;
    let needed = job.bytes();
    let mut hasher = Sha256::new();
    for (offset, size) in manifest::cut_tensor(tensor.part_offset, tensor.bytes) {
        let piece = &mut buffer[..size as usize];
        source.read_exact_at(piece, offset).map_err(CopyError::Read)?;
        hasher.update(&piece);
        out.piece(piece).map_err(CopyError::Write)?;
        (job.progress)(Step::Copy, size, needed);
    }
    Ok(Tensor {
        name: tensor.name.clone(),
        offset: tensor.offset,
        size: tensor.bytes,
        sha256: hash::finish(hasher),
    })
}

/// A file that grows, with what the manifest will say of it.
struct Writer {
    partial: Partial,
    hasher: Sha256,
    position: u64,
    pieces: Vec<Piece>,
}

impl Writer {
    fn piece(&mut self, bytes: &[u8]) -> io::Result<()> {
        let piece = Piece { offset: self.position, size: bytes.len() as u64, sha256: hash::sha256(bytes) };
        self.write(bytes)?;
        self.pieces.push(piece);
        Ok(())
    }

    /// Zeros up to `offset`: less than an alignment.
    fn pad_to(&mut self, offset: u64) -> io::Result<()> {
        let zeros = vec![0; offset.saturating_sub(self.position) as usize];
        self.write(&zeros)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.partial.write_all(bytes)?;
        self.hasher.update(bytes);
        self.position += bytes.len() as u64;
        Ok(())
    }
}
