//! Which further files of the manifest a node fetches, beside those that it serves. Pure.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use shard_wire::manifest::{File, Manifest};

/// How many further files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replicate {
    /// None: what the node serves, and the tokenizer.
    #[default]
    Own,
    /// Every file of the manifest.
    All,
    /// So many.
    Count(u32),
}

impl FromStr for Replicate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "own" => Ok(Self::Own),
            "all" => Ok(Self::All),
            count => {
                count.parse().map(Self::Count).map_err(|_| "expected own, all or a number of files".into())
            }
        }
    }
}

impl fmt::Display for Replicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("own"),
            Self::All => f.write_str("all"),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}

/// What a node knows of its fleet when it chooses.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The plan's files.
    pub manifest: &'a Manifest,
    /// Names of files that it serves; they are fetched whatever the limits are.
    pub own: &'a [String],
    /// Names of further files that it has.
    pub held: &'a [String],
    /// Whole seeders of a file by name, this node not counted; absent is none.
    pub seeders: &'a HashMap<String, usize>,
    /// Bytes that all files of the folder may have together.
    pub storage_limit: Option<u64>,
    /// Bytes of files in the folder that are of no use to this plan.
    pub other_bytes: u64,
    /// Differs from node to node, so that they do not all choose the same of equals.
    pub seed: u64,
}

/// Further files to fetch, those with the fewest seeders first. A file that does not fit is left out, and smaller ones
/// behind it may be chosen.
pub fn choose<'a>(replicate: Replicate, situation: &Situation<'a>) -> Vec<&'a File> {
    let Situation { manifest, own, held, seeders, storage_limit, other_bytes, seed } = *situation;
    let has = |names: &[String], file: &File| names.contains(&file.name);
    let here = manifest.files.iter().filter(|file| has(own, file) || has(held, file));
    let mut used = here.fold(other_bytes, |sum, file| sum.saturating_add(file.size));
    let already = manifest.files.iter().filter(|file| has(held, file) && !has(own, file)).count();
    let most = match replicate {
        Replicate::Own => 0,
        Replicate::All => manifest.files.len(),
        Replicate::Count(count) => (count as usize).saturating_sub(already),
    };
    let missing = manifest.files.iter().enumerate().filter(|(_, file)| !has(own, file) && !has(held, file));
    let mut missing: Vec<_> = missing.collect();
    let count = manifest.files.len().max(1);
    let turned = |i: usize| (i + (seed % count as u64) as usize) % count;
    missing.sort_by_key(|(i, file)| (seeders.get(&file.name).copied().unwrap_or_default(), turned(*i)));
    let mut chosen = Vec::new();
    for (_, file) in missing {
        let sum = used.saturating_add(file.size);
        if chosen.len() < most && storage_limit.is_none_or(|limit| sum <= limit) {
            used = sum;
            chosen.push(file);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(sizes: &[u64]) -> Manifest {
        let file = |(i, size): (usize, &u64)| File {
            name: format!("shard-{i}.gguf"),
            size: *size,
            sha256: String::new(),
            start: i as u32,
            end: i as u32 + 1,
            tensors: Vec::new(),
            pieces: Vec::new(),
        };
        Manifest {
            version: 1,
            model_sha256: String::new(),
            model_bytes: sizes.iter().sum(),
            total_layers: sizes.len() as u32,
            layer_starts: (0..sizes.len() as u32).collect(),
            piece_size: 1,
            files: sizes.iter().enumerate().map(file).collect(),
        }
    }

    #[test]
    fn the_rarest_that_fit_are_chosen() {
        use Replicate::{All, Count, Own};
        let manifest = manifest(&[10, 20, 30, 40]);
        for (replicate, limit, other, seeders, held, seed, expected, why) in [
            (Own, None, 0, [1, 1, 1, 1], None, 0, &[][..], "nothing further"),
            (All, None, 0, [9, 3, 2, 1], None, 0, &[3, 2, 1], "the rarest first"),
            (Count(1), None, 0, [9, 3, 0, 1], None, 0, &[2], "one of them"),
            (Count(1), None, 0, [9, 3, 0, 1], Some(1), 0, &[], "one is there already"),
            (Count(2), None, 0, [9, 3, 0, 1], Some(1), 0, &[2], "one more"),
            (All, Some(60), 0, [1, 1, 1, 1], None, 0, &[1, 2], "what fits beside the own 10"),
            (All, Some(59), 0, [1, 1, 1, 0], None, 0, &[3], "40 and 10, and nothing else fits"),
            (All, Some(60), 15, [1, 1, 1, 0], None, 0, &[1], "40 does not fit beside 25, 20 does"),
            (All, Some(5), 0, [1, 1, 1, 1], None, 0, &[], "the own file is over the limit alone"),
            (Count(1), None, 0, [1, 1, 1, 1], None, 1, &[3], "another node chooses another of equals"),
        ] {
            let names = ["shard-0.gguf", "shard-1.gguf", "shard-2.gguf", "shard-3.gguf"].map(str::to_owned);
            let counts = names.iter().cloned().zip(seeders).collect();
            let held: Vec<String> = held.iter().map(|i: &usize| names[*i].clone()).collect();
            let situation = Situation {
                manifest: &manifest,
                own: &names[..1],
                held: &held,
                seeders: &counts,
                storage_limit: limit,
                other_bytes: other,
                seed,
            };
            let found: Vec<&str> = choose(replicate, &situation).iter().map(|file| &file.name[..]).collect();
            let expected: Vec<String> = expected.iter().map(|i| format!("shard-{i}.gguf")).collect();
            assert_eq!(found, expected, "{why}");
        }
    }

    #[test]
    fn the_words_of_the_flag_are_read() {
        for text in ["own", "all", "0", "17"] {
            assert_eq!(text.parse::<Replicate>().unwrap().to_string(), text);
        }
        for text in ["", "some", "-1", "4294967296"] {
            assert!(text.parse::<Replicate>().is_err(), "{text}");
        }
    }
}
