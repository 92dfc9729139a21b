//! SHA-256 as the manifest has it: lower-case hex.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::net::hex;

/// Bytes that are read at a time.
const BUFFER: usize = 1 << 20;

/// The SHA-256 of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes))
}

/// The SHA-256 of a file; `on_bytes` hears how many more bytes were read.
pub(crate) fn file(path: &Path, on_bytes: impl FnMut(u64)) -> io::Result<String> {
    let mut hasher = Sha256::new();
    update(&mut hasher, File::open(path)?, on_bytes)?;
    Ok(finish(hasher))
}

/// What `hasher` has come to.
pub(crate) fn finish(hasher: Sha256) -> String {
    hex::encode(&hasher.finalize())
}

/// Feeds all of `input` to `hasher`; `on_bytes` hears how many more bytes were read.
pub(crate) fn update(
    hasher: &mut Sha256,
    mut input: impl Read,
    mut on_bytes: impl FnMut(u64),
) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER];
    let mut total = 0;
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(n) => {
                hasher.update(&buffer[..n]);
                total += n as u64;
                on_bytes(n as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
