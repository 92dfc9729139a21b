//! Pieces that are on disk already, in another file: after another split, of a fine-tune, or half fetched.
//!
//! A tensor keeps its name and its bytes through a split, and pieces are cut from its own start. So a GGUF file of the
//! folder that has a tensor of the same name and size may have its pieces, at places that its header tells: no old
//! manifest is needed, and nothing is hashed but what would be fetched otherwise. The header only says where to look;
//! a piece counts when its hash is right.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use shard_engine::gguf::Gguf;
use shard_wire::manifest;

use super::DownloadError;
use super::part::{Part, Stored};

/// Files of the folder that are looked into, by name: a header is up to 64 MiB to read.
const MAX_FILES: usize = 256;

/// A file that shares tensors with the one that is fetched.
pub(super) struct Source {
    file: File,
    /// A piece, and where it may lie.
    places: Vec<(usize, u64)>,
}

/// Files of `folder` that may have pieces of `about`. Those that cannot be read are passed by.
pub(super) fn sources(folder: &Path, about: &manifest::File) -> Vec<Source> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let may = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        [".gguf", ".gguf.part", ".gguf.part.old"].iter().any(|end| name.ends_with(end))
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(may).collect();
    paths.sort();
    if paths.len() > MAX_FILES {
        tracing::warn!("{}: pieces are looked for in the first {MAX_FILES} files only", folder.display());
        paths.truncate(MAX_FILES);
    }
    paths.iter().filter_map(|path| source(path, about)).collect()
}

fn source(path: &Path, about: &manifest::File) -> Option<Source> {
    let gguf = Gguf::open(path).ok()?;
    let file = File::open(path).ok()?;
    let mut places = Vec::new();
    // The same file under another name.
    if gguf.file_bytes == about.size {
        places.push((0, 0));
    }
    let mut pieces = about.pieces.iter().enumerate().skip(1).peekable();
    for tensor in &about.tensors {
        let end = tensor.offset + tensor.size;
        let here = gguf.tensor(&tensor.name).filter(|here| here.bytes == tensor.size);
        while let Some((i, piece)) = pieces.next_if(|(_, piece)| piece.offset < end) {
            if let Some(here) = here {
                places.push((i, here.offset + (piece.offset - tensor.offset)));
            }
        }
    }
    (!places.is_empty()).then_some(Source { file, places })
}

/// Copies what is right into `part`. `on_bytes` hears of the bytes of each piece, and says whether to go on.
pub(super) fn copy(
    part: &Part,
    sources: &[Source],
    mut on_bytes: impl FnMut(u64) -> bool,
) -> Result<(), DownloadError> {
    let mut buffer = Vec::new();
    for source in sources {
        for (piece, offset) in &source.places {
            let Some(place) = part.about().pieces.get(*piece).filter(|_| !part.has(*piece)) else { continue };
            buffer.resize(place.size as usize, 0);
            if source.file.read_exact_at(&mut buffer, *offset).is_err() {
                continue;
            }
            let bytes = match part.store(*piece, &buffer)? {
                Stored::Right => place.size,
                Stored::Wrong => 0,
            };
            if !on_bytes(bytes) {
                return Ok(());
            }
        }
    }
    Ok(())
}
