use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use shard_wire::manifest;

use super::cut::file_name;
use super::folder::Folder;
use super::{Job, SplitError, Step};

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

/// Writes the file with this index under a temporary name and describes it.
pub(super) fn write_file(
    job: &Job<'_>,
    folder: &Folder,
    index: usize,
) -> Result<(manifest::File, Partial), SplitError> {
    let target = folder.file(&file_name(&job.cut.files()[index].kind));
    let needed = job.cut.bytes();
    let failed = |source| SplitError::Write { path: target.clone(), needed, source };
    let mut partial = Partial::create(target.clone()).map_err(failed)?;
    let file = job.cut.describe(
        index,
        |more| (job.progress)(Step::Copy, more, needed),
        |bytes| partial.write_all(bytes).map_err(failed),
    )?;
    partial.sync().map_err(failed)?;
    Ok((file, partial))
}
