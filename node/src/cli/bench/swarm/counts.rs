//! What has left the origin, by its `/status`. Pure.
//!
//! A piece that has left twice while another has not left at all stays so until that one leaves: looks that are closer
//! together than one piece takes to leave miss nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

/// The status has no counts.
#[derive(Debug, Error)]
#[error("the origin's /status does not tell what has left it: {0}")]
pub(super) struct CountsError(String);

/// Of one file: bytes that have left, and how many pieces have left how often.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct FileCounts {
    pub(super) bytes: u64,
    pub(super) pieces: Vec<Times>,
}

/// So many pieces have left so often.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) times: u32,
    pub(super) pieces: usize,
}

impl FileCounts {
    fn never(&self) -> usize {
        self.pieces.iter().filter(|of| of.times == 0).map(|of| of.pieces).sum()
    }

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
    /// The most pieces that had left twice while another piece of the same file had not left.
    pub(super) again_of_file: usize,
    /// The same over all files together.
    pub(super) again_of_all: usize,
}

impl FirstRound {
    /// Takes one look in; `files` is how many there are.
    pub(super) fn look(&mut self, seconds: f64, counts: &Counts, files: usize) {
        self.looks += 1;
        if self.complete_s.is_some() {
            return;
        }
        let early = counts.files.iter().filter(|file| file.never() > 0);
        self.again_of_file = self.again_of_file.max(early.map(FileCounts::again).sum());
        if counts.files.len() >= files && counts.files.iter().all(|file| file.never() == 0) {
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

    use super::*;

    fn counts(files: &[&[(u32, usize)]]) -> Counts {
        let times = |&(times, pieces): &(u32, usize)| Times { times, pieces };
        let file =
            |pieces: &&[(u32, usize)]| FileCounts { bytes: 100, pieces: pieces.iter().map(times).collect() };
        Counts { files: files.iter().map(file).collect() }
    }

    #[test]
    fn the_status_is_read() {
        let status = json!({"served": [
            {"sha256": "ab", "bytes": 100, "pieces": [{"times": 0, "pieces": 1}, {"times": 2, "pieces": 3}]},
            {"sha256": "cd", "bytes": 100, "pieces": [{"times": 2, "pieces": 1}]},
        ]});
        let read = Counts::read(&status).unwrap();
        assert_eq!(read, counts(&[&[(0, 1), (2, 3)], &[(2, 1)]]));
        assert_eq!(read.bytes(), 200);
        assert_eq!(read.histogram(), BTreeMap::from([(0, 1), (2, 4)]));
        for status in [json!({}), json!({"served": null}), json!({"served": [1]})] {
            assert!(Counts::read(&status).unwrap_err().to_string().contains("/status"), "{status}");
        }
    }

    #[test]
    fn a_second_time_before_all_have_left_once_is_seen() {
        let on_its_way = counts(&[&[(0, 2), (1, 1)]]);
        for (files, looks, complete, of_file, of_all, why) in [
            (1, vec![counts(&[])], None, 0, 0, "nothing has left yet"),
            (1, vec![on_its_way.clone()], None, 0, 0, "on its way"),
            (1, vec![on_its_way, counts(&[&[(1, 2), (2, 1)]])], Some(1.0), 0, 0, "as it should"),
            (1, vec![counts(&[&[(0, 1), (2, 1)]]), counts(&[&[(1, 2)]])], Some(1.0), 1, 1, "too early"),
            (2, vec![counts(&[&[(2, 1), (3, 1)], &[(0, 4)]])], None, 0, 2, "another file has not left"),
            (2, vec![counts(&[&[(1, 1), (3, 1)]])], None, 0, 1, "nothing of another file has left"),
            (1, vec![counts(&[&[(1, 1)]]), counts(&[&[(0, 1), (9, 1)]])], Some(0.0), 0, 0, "it was complete"),
        ] {
            let mut round = FirstRound::default();
            for (at, look) in looks.iter().enumerate() {
                round.look(at as f64, look, files);
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
