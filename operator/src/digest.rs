//! Short names for long texts.

use sha2::{Digest, Sha256};

/// Of the digest: two versions of one object do not meet by chance.
const BYTES: usize = 8;

/// 16 hexadecimal digits of the text's SHA-256.
pub(crate) fn short(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(BYTES).map(|byte| format!("{byte:02x}")).collect()
}
