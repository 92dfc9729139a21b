//! Who a pod is in the nodes' network: libp2p's name for the public half of its key. Pure.
//!
//! ```text
//! seed ─ Ed25519 ─▶ public key ─▶ protobuf {type 1, 32 bytes} ─▶ multihash 0 (the bytes themselves) ─▶ base58
//! ```

use ed25519_dalek::SigningKey;

/// Bytes of a seed.
const SEED: usize = 32;
/// Of the multihash: no hash (0), 36 bytes; then of the key: its type is Ed25519 (field 1), its bytes are 32 (field 2).
const HEAD: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// The peer id of a key as identity files have it: 64 hexadecimal digits, white space around them; `None` where it is none.
#[must_use]
pub fn of_seed(text: &[u8]) -> Option<String> {
    let digits = text.trim_ascii();
    if digits.len() != 2 * SEED {
        return None;
    }
    let mut seed = [0; SEED];
    for (byte, pair) in seed.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    let public = SigningKey::from_bytes(&seed).verifying_key().to_bytes();
    Some(bs58::encode([&HEAD[..], &public].concat()).into_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `node/tests/identities.txt`: made by libp2p, as a test of the node's holds.
    const IDENTITIES: &str = include_str!("../../node/tests/identities.txt");

    #[test]
    fn names_are_those_of_libp2p() {
        let lines: Vec<&str> = IDENTITIES.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(lines.len() >= 4);
        for line in lines {
            let (seed, name) = line.split_once(' ').unwrap();
            assert_eq!(of_seed(seed.as_bytes()).as_deref(), Some(name));
            let lines = format!("\n{}\n", seed.to_uppercase());
            assert_eq!(of_seed(lines.as_bytes()).as_deref(), Some(name));
        }
        for wrong in ["", "0123", &"g".repeat(64), &"0".repeat(63), &"0".repeat(66), &"é".repeat(32)] {
            assert_eq!(of_seed(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
