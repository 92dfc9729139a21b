//! What has left the origin, by its `/status`. Pure.
//!
//! A piece counts as given with the first byte, and has left when its receiver has confirmed it. So the first round is
//! over when none is pending; a piece that is given a second time before that has left too early.
//! What was too early stays so until the round is over: looks that are closer together than one piece takes miss nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shard_wire::manifest::Manifest;
use thiserror::Error;

/// The status has no counts.
#[derive(Debug, Error)]
#[error("the origin's /status does not tell what has left it: {0}")]
pub(super) struct CountsError(String);

/// Of one file: bytes that were sent, how many pieces were given how often, and how many have not left.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct FileCounts {
    pub(super) sha256: String,
    pub(super) bytes: u64,
    pub(super) pieces: Vec<Times>,
    pub(super) pending: usize,
}

/// So many pieces were given so often.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) times: u32,
    pub(super) pieces: usize,
}

impl FileCounts {
    fn again(&self) -> usize {
        self.pieces.iter().filter(|of| of.times > 1).map(|of| of.pieces).sum()
    }
}

/// Of all files of which anything has left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) files: Vec<FileCounts>,
}

impl Counts {
    /// Reads a status.
    pub(super) fn read(status: &Value) -> Result<Self, CountsError> {
        let wrong = |reason: &str| CountsError(reason.to_owned());
        let served = status.get("served").ok_or_else(|| wrong("it has no 'served'"))?;
        let files = Vec::deserialize(served).map_err(|error| wrong(&error.to_string()))?;
        Ok(Self { files })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Pieces by how often they have left.
    pub(super) fn histogram(&self) -> BTreeMap<u32, usize> {
        let mut all = BTreeMap::new();
        for of in self.files.iter().flat_map(|file| &file.pieces) {
            *all.entry(of.times).or_default() += of.pieces;
        }
        all
    }
}

/// What one look after the other has shown of the first round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct FirstRound {
    pub(super) looks: usize,
    /// When every piece of every file had left once.
    pub(super) complete_s: Option<f64>,
    /// The most pieces that were given again while a piece of the same file had not left.
    pub(super) again_of_file: usize,
    /// The same over all files together.
    pub(super) again_of_all: usize,
}

impl FirstRound {
    /// Takes one look in.
    pub(super) fn look(&mut self, seconds: f64, counts: &Counts, manifest: &Manifest) {
        self.looks += 1;
        if self.complete_s.is_some() {
            return;
        }
        let mut complete = true;
        for file in &manifest.files {
            let of_file = counts.files.iter().find(|counts| counts.sha256 == file.sha256);
            match of_file {
                Some(counts) if counts.pending == 0 => {}
                Some(counts) => {
                    complete = false;
                    self.again_of_file = self.again_of_file.max(counts.again());
                }
                None => complete = false,
            }
        }
        if complete {
            self.complete_s = Some(seconds);
        } else {
            let again = counts.files.iter().map(FileCounts::again).sum();
            self.again_of_all = self.again_of_all.max(again);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shard_wire::manifest::File;

    use super::*;

    /// Pieces that are pending, and (times, pieces).
    type OfFile<'a> = (usize, &'a [(u32, usize)]);

    /// Of files a and b.
    fn counts(files: &[OfFile<'_>]) -> Counts {
        let times = |&(times, pieces): &(u32, usize)| Times { times, pieces };
        let file = |(name, (pending, pieces)): (char, &OfFile<'_>)| FileCounts {
            sha256: name.into(),
            bytes: 100,
            pending: *pending,
            pieces: pieces.iter().map(times).collect(),
        };
        Counts { files: ('a'..).zip(files).map(file).collect() }
    }

    /// Of so many files of 300 bytes.
    fn manifest(files: usize) -> Manifest {
        let file = |name: char| File {
            name: name.into(),
            size: 300,
            sha256: name.into(),
            start: 0,
            end: 1,
            tensors: Vec::new(),
            pieces: Vec::new(),
        };
        Manifest {
            version: 1,
            model_sha256: String::new(),
            model_bytes: 0,
            total_layers: 1,
            layer_starts: vec![0],
            piece_size: 100,
            files: ('a'..).take(files).map(file).collect(),
        }
    }

    #[test]
    fn the_status_is_read() {
        let status = json!({"served": [
            {"sha256": "a", "bytes": 100, "pending": 1, "pieces": [{"times": 0, "pieces": 1}, {"times": 2, "pieces": 3}]},
            {"sha256": "b", "bytes": 100, "pending": 0, "pieces": [{"times": 2, "pieces": 1}]},
        ]});
        let read = Counts::read(&status).unwrap();
        assert_eq!(read, counts(&[(1, &[(0, 1), (2, 3)]), (0, &[(2, 1)])]));
        assert_eq!(read.bytes(), 200);
        assert_eq!(read.histogram(), BTreeMap::from([(0, 1), (2, 4)]));
        for status in [json!({}), json!({"served": null}), json!({"served": [1]})] {
            assert!(Counts::read(&status).unwrap_err().to_string().contains("/status"), "{status}");
        }
    }

    #[test]
    fn a_second_time_before_all_have_left_once_is_seen() {
        let begun = || counts(&[(3, &[(0, 2), (1, 1)])]);
        let whole = || counts(&[(0, &[(1, 2), (2, 1)])]);
        for (files, looks, complete, of_file, of_all, why) in [
            (1, vec![counts(&[])], None, 0, 0, "nothing has left yet"),
            (1, vec![begun()], None, 0, 0, "on its way"),
            (1, vec![begun(), whole()], Some(1.0), 0, 0, "as it should"),
            (1, vec![counts(&[(1, &[(0, 1), (2, 1)])]), whole()], Some(1.0), 1, 1, "too early"),
            (1, vec![counts(&[(1, &[(1, 1), (2, 2)])]), whole()], Some(1.0), 2, 2, "given, and not gone"),
            (
                2,
                vec![counts(&[(0, &[(2, 2), (1, 1)]), (3, &[(0, 3)])])],
                None,
                0,
                2,
                "another file has not left",
            ),
            (2, vec![whole()], None, 0, 1, "nothing of another file has left"),
            (1, vec![whole(), counts(&[(0, &[(3, 3)])])], Some(0.0), 0, 0, "it was complete"),
        ] {
            let mut round = FirstRound::default();
            for (at, look) in looks.iter().enumerate() {
                round.look(at as f64, look, &manifest(files));
            }
            let expected = FirstRound {
                looks: looks.len(),
                complete_s: complete,
                again_of_file: of_file,
                again_of_all: of_all,
            };
            assert_eq!(round, expected, "{why}");
        }
    }
}
