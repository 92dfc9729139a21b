//! The cluster secret: what its members know and nobody else.
//!
//! It is text of 32 bytes or more, on the first line of a file or in a variable. A second line holds another secret that
//! counts as well, so that a cluster changes its secret without an outage, every program restarted at each step:
//!
//! ```text
//!  file   old  →  old, new  →  new, old  →  new
//!         all know the new one before anybody uses it, and the old one until nobody does
//! ```

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use shard_wire::contract::CLUSTER_SECRET;
use thiserror::Error;

use crate::config::SecretSource;

/// Bytes of a secret at least: as many as the hash has.
pub const MIN_SECRET_BYTES: usize = 32;
/// Secrets that a member knows at once: the current one and another, during rotation.
pub const MAX_SECRETS: usize = 2;
/// Bytes of a secret file at most.
const MAX_FILE_BYTES: u64 = 4096;
/// Bytes of a proof.
pub(super) const PROOF_BYTES: usize = 32;

/// Bytes that only a holder of the secret can make, or check.
pub(super) type Proof = [u8; PROOF_BYTES];

/// One or two secrets, the current one first.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets(Arc<[Box<[u8]>]>);

/// Why there is no secret.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the cluster secret file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A secret that can be guessed.
    #[error(
        "the cluster secret in {place} has {bytes} bytes and needs {MIN_SECRET_BYTES} or more: make one with `openssl rand -hex 32`"
    )]
    Short {
        /// Where it is.
        place: String,
        /// How long it is.
        bytes: usize,
    },
    /// Something else than a secret, or two.
    #[error("{place} holds {lines} lines, and a cluster secret is one line, or two during rotation")]
    Lines {
        /// Where they are.
        place: String,
        /// How many.
        lines: usize,
    },
}

impl Secrets {
    /// Reads the secret from where the user keeps it.
    ///
    /// # Errors
    /// When it is not there, or is none.
    pub fn load(source: &SecretSource) -> Result<Self, SecretError> {
        match source {
            SecretSource::File(path) => {
                let text = read(path).map_err(|source| SecretError::Read { path: path.clone(), source })?;
                if is_open(path) {
                    tracing::warn!(
                        "every user of this machine can read the cluster secret in {}: chmod o-r it",
                        path.display()
                    );
                }
                Self::parse(&text, &path.display().to_string())
            }
            SecretSource::Variable => {
                let text = std::env::var_os(CLUSTER_SECRET.env).unwrap_or_default();
                Self::parse(text.as_encoded_bytes(), CLUSTER_SECRET.env)
            }
        }
    }

    /// Reads one line or two; `place` is named in errors.
    ///
    /// # Errors
    /// When a line is too short, or there is another number of them.
    pub fn parse(text: &[u8], place: &str) -> Result<Self, SecretError> {
        let lines: Vec<&[u8]> = text
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::trim_ascii)
            .filter(|line| !line.is_empty())
            .collect();
        if lines.is_empty() {
            return Err(SecretError::Short { place: place.to_owned(), bytes: 0 });
        }
        if lines.len() > MAX_SECRETS {
            return Err(SecretError::Lines { place: place.to_owned(), lines: lines.len() });
        }
        if let Some(short) = lines.iter().find(|line| line.len() < MIN_SECRET_BYTES) {
            return Err(SecretError::Short { place: place.to_owned(), bytes: short.len() });
        }
        Ok(Self(lines.into_iter().map(Box::from).collect()))
    }

    /// One proof for each secret, the current one's first.
    pub(super) fn prove<'a>(&'a self, message: &'a [u8]) -> impl Iterator<Item = Proof> + 'a {
        self.0.iter().filter_map(move |secret| Some(mac(secret, message)?.finalize().into_bytes().into()))
    }

    /// Whether a proof is by any of the secrets. How long it takes says nothing of them.
    pub(super) fn accept(&self, message: &[u8], proof: &[u8]) -> bool {
        let fits = |secret| mac(secret, message).is_some_and(|mac| mac.verify_slice(proof).is_ok());
        self.0.iter().fold(false, |any, secret| any | fits(secret))
    }
}

/// HMAC takes a key of any length, so there always is one.
fn mac(secret: &[u8], message: &[u8]) -> Option<Hmac<Sha256>> {
    Some(Hmac::<Sha256>::new_from_slice(secret).ok()?.chain_update(message))
}

/// A file that grows for ever is read as far as it may be right.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it has more than {MAX_FILE_BYTES} bytes"),
        ));
    }
    Ok(text)
}

/// Whether others than its owner and group can read it.
fn is_open(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|about| about.permissions().mode() & 0o004 != 0)
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "the old secret of thirty-two bytes";
    const NEW: &str = "the new secret of thirty-two bytes";

    #[test]
    fn a_file_holds_one_secret_or_two() {
        let proofs =
            |text: &str| Secrets::parse(text.as_bytes(), "F").map(|s| s.prove(b"m").collect::<Vec<_>>());
        let old = proofs(OLD).unwrap();
        assert_eq!(old.len(), 1);
        for same in [format!("{OLD}\n"), format!("  {OLD}\t\r\n\n")] {
            assert_eq!(proofs(&same).unwrap(), old);
        }
        let both = proofs(&format!("{NEW}\n{OLD}\n")).unwrap();
        assert_eq!(both, [proofs(NEW).unwrap(), old].concat());

        let refused = |text: &str| proofs(text).unwrap_err().to_string();
        assert!(refused("").contains("in F has 0 bytes"));
        assert!(refused("\n \n").contains("has 0 bytes"));
        let short = refused("only thirty-one bytes of secret");
        assert!(short.contains("has 31 bytes") && short.contains("openssl rand -hex 32"), "{short}");
        assert!(refused(&format!("{OLD}\nshort")).contains("has 5 bytes"));
        assert!(refused(&format!("{OLD}\n{NEW}\n{OLD}")).contains("3 lines"));
    }

    #[test]
    fn the_file_is_named_and_bounded_and_the_secret_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let load = || Secrets::load(&SecretSource::File(path.clone()));
        let missing = load().unwrap_err().to_string();
        assert!(missing.contains(&path.display().to_string()), "{missing}");
        fs::write(&path, OLD).unwrap();
        assert_eq!(format!("{:?}", load().unwrap()), "Secrets(1)");
        fs::write(&path, vec![b'x'; 5000]).unwrap();
        let large = load().unwrap_err().to_string();
        assert!(large.contains("more than 4096 bytes") && !large.contains("xxx"), "{large}");
        assert!(load_short(&path).contains("has 5 bytes"));
    }

    fn load_short(path: &Path) -> String {
        fs::write(path, "short").unwrap();
        let said = Secrets::load(&SecretSource::File(path.to_owned())).unwrap_err().to_string();
        assert!(!said.contains("short "), "{said}");
        said
    }

    #[test]
    fn a_proof_is_good_for_its_message_and_the_holders_of_its_secret() {
        let secrets = |text: &str| Secrets::parse(text.as_bytes(), "F").unwrap();
        let (old, new, both) = (secrets(OLD), secrets(NEW), secrets(&format!("{NEW}\n{OLD}")));
        let proof = old.prove(b"message").next().unwrap();
        assert!(old.accept(b"message", &proof) && both.accept(b"message", &proof));
        assert!(!new.accept(b"message", &proof) && !old.accept(b"massage", &proof));
        assert!(!old.accept(b"message", &proof[..31]) && !old.accept(b"message", b""));
    }
}
