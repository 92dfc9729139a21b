//! What a download asks of the disk, so that a test can have one that is full or read-only.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The disk. Every method may block.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file for reading and writing, and makes it where it is missing.
    ///
    /// # Errors
    /// As the system has it.
    fn open(&self, path: &Path) -> io::Result<File> {
        File::options().read(true).write(true).create(true).truncate(false).open(path)
    }

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// As the system has it.
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    /// What was written is on the medium.
    ///
    /// # Errors
    /// As the system has it.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    /// Gives a file its final name, for good.
    ///
    /// # Errors
    /// As the system has it.
    fn publish(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)?;
        match to.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
            _ => Ok(()),
        }
    }
}

/// This machine's.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Disk for System {}
