//! The bytes of a file that peers may ask for, wherever they lie.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use crate::store::view::View;

/// Bytes that can be read at any place by several at once. Reading may block: it is done on threads for that.
pub trait Content: Send + Sync + 'static {
    /// How many there are.
    fn size(&self) -> u64;

    /// Fills `buffer` from `offset`, wholly.
    ///
    /// # Errors
    /// Where the bytes cannot be read, or there are fewer.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// A file on disk. It is opened for each read, so that it may be replaced or removed meanwhile: nothing is read of
/// another file that has its name by then.
#[derive(Clone, Debug)]
pub struct FileContent {
    path: PathBuf,
    size: u64,
    /// Device and number of the file.
    inode: (u64, u64),
}

impl FileContent {
    /// The file at `path` as it is now.
    ///
    /// # Errors
    /// Where there is none, or it is no regular file.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let about = path.metadata()?;
        if !about.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        Ok(Self { path, size: about.len(), inode: inode(&about) })
    }
}

fn inode(about: &Metadata) -> (u64, u64) {
    (about.dev(), about.ino())
}

impl Content for FileContent {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let file = File::open(&self.path)?;
        if inode(&file.metadata()?) != self.inode {
            return Err(io::Error::other("another file has its name"));
        }
        file.read_exact_at(buffer, offset)
    }
}

impl Content for View {
    fn size(&self) -> u64 {
        Self::size(self)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        Self::read_at(self, offset, buffer)
    }
}
