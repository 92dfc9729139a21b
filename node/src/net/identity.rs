//! The Ed25519 key that makes a node the same peer over restarts.
//!
//! The file holds the 32 bytes of the secret seed as 64 hex digits: any tool can make one.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use libp2p::identity::{Keypair, ed25519};
use thiserror::Error;

use super::hex;

/// Why there is no key.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The file is there and cannot be read.
    #[error("cannot read the identity file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("the identity file {} does not hold 64 hex digits (an Ed25519 seed): remove it to get a new identity", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// A new key cannot be kept.
    #[error("cannot write a new identity to {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The key in `path`, which is created with mode 0600 where it is absent; a fresh key without a path.
///
/// # Errors
/// When the file cannot be read or written, or is no key: an identity is never replaced silently.
pub fn load_or_create(path: Option<&Path>) -> Result<Keypair, IdentityError> {
    let Some(path) = path else { return Ok(Keypair::generate_ed25519()) };
    match fs::read_to_string(path) {
        Ok(text) => parse(&text).ok_or_else(|| IdentityError::Malformed { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = ed25519::Keypair::generate();
            write(path, &hex::encode(key.secret().as_ref()))
                .map_err(|source| IdentityError::Write { path: path.to_owned(), source })?;
            Ok(key.into())
        }
        Err(source) => Err(IdentityError::Read { path: path.to_owned(), source }),
    }
}

fn parse(text: &str) -> Option<Keypair> {
    let seed: [u8; 32] = hex::decode(text.trim())?.try_into().ok()?;
    Keypair::ed25519_from_bytes(seed).ok()
}

/// Writes beside the file and renames, so that a crash leaves no half a key.
fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// The operator names pods without libp2p, and is tested against the same lines.
    #[test]
    fn names_of_keys_are_those_that_the_operator_has() {
        let lines = include_str!("../../tests/identities.txt").lines().filter(|line| !line.starts_with('#'));
        for line in lines {
            let seed = line.split(' ').next().unwrap();
            let name = parse(seed).unwrap().public().to_peer_id();
            assert_eq!(line, format!("{seed} {name}"));
        }
    }

    #[test]
    fn a_key_is_made_once_and_kept() {
        let folder = std::env::temp_dir().join(format!("shardcluster-identity-{}", std::process::id()));
        let path = folder.join("key");
        let first = load_or_create(Some(&path)).unwrap().public().to_peer_id();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load_or_create(Some(&path)).unwrap().public().to_peer_id(), first);

        fs::write(&path, "0123").unwrap();
        assert!(matches!(load_or_create(Some(&path)), Err(IdentityError::Malformed { .. })));
        assert!(matches!(load_or_create(Some(&folder)), Err(IdentityError::Read { .. })));
        assert!(matches!(load_or_create(Some(&path.join("below"))), Err(IdentityError::Read { .. })));
        fs::remove_dir_all(&folder).unwrap();
    }
}
