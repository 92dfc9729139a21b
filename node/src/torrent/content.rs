//! What pieces are read from.

use std::io;

use crate::store::view::View;

/// Bytes of a file, wherever they lie.
pub trait Content: Send + Sync {
    /// Size of the file.
    fn size(&self) -> u64;

    /// Fills `buffer` with the file's bytes from `offset` on. It blocks.
    ///
    /// # Errors
    /// Where the range is not in the file, or cannot be read.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl Content for View {
    fn size(&self) -> u64 {
        Self::size(self)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        Self::read_at(self, offset, buffer)
    }
}
