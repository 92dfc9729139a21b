//! Buffers of pieces, used again: fresh ones cost a page fault for each 4 KiB.

use std::sync::{Mutex, PoisonError};

/// Larger ones are rare headers, and are not kept.
const KEPT_BYTES: usize = 2 << 20;
/// As many as are in use at a time.
const KEPT: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Buffers {
    free: Mutex<Vec<Vec<u8>>>,
}

impl Buffers {
    /// A buffer of `len` bytes of any value.
    pub(super) fn take(&self, len: usize) -> Vec<u8> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffer = free.unwrap_or_default();
        buffer.resize(len, 0);
        buffer
    }

    pub(super) fn give(&self, buffer: Vec<u8>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.capacity() <= KEPT_BYTES && free.len() < KEPT {
            free.push(buffer);
        }
    }
}
