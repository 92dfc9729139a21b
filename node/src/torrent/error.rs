use std::io;
use std::path::PathBuf;

/// Why a file was not fetched. What is verified is kept beside the final name, and the next try goes on from it.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The manifest has no such file.
    #[error("the manifest has no file {name:?}")]
    NoSuchFile {
        /// What was asked for.
        name: String,
    },
    /// Nothing can be made in the folder.
    #[error("cannot make {path}: {source}; the folder must exist and be writable, or choose another --shards-dir", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else fetches it into the same folder.
    #[error("another program is fetching {path}: wait for it, or choose another --shards-dir", path = path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// The disk is full, or broken.
    #[error("cannot write {path}: {source}; {missing} bytes are missing: make room: it goes on from what is there", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Bytes that are not there yet.
        missing: u64,
        /// Why.
        source: io::Error,
    },
    /// What was written cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody has removed the file that is being fetched.
    #[error("{path} was removed while it was fetched: start again", path = path.display())]
    Vanished {
        /// The file.
        path: PathBuf,
    },
    /// It cannot take its final name.
    #[error("cannot name the finished file {path}: {source}", path = path.display())]
    Publish {
        /// The final name.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Every piece is right and the whole is not.
    #[error("{path}: every piece is as the manifest says, but the SHA-256 of the whole is {found}, not {expected}: the manifest is wrong, split the model again", path = path.display())]
    Inconsistent {
        /// The file.
        path: PathBuf,
        /// Of the file.
        found: String,
        /// In the manifest.
        expected: String,
    },
    /// The work was given up with the program.
    #[error("the download of {name} has ended")]
    Ended {
        /// The file.
        name: String,
    },
}
