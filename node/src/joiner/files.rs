//! Which files the DHT has heard of from us. Pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use shard_wire::announce::FileInfo;
use shard_wire::keys::MAX_FILES_PER_PEER;

use super::JoinReport;

/// By hash: the file, and when a peer stored its record the last time.
#[derive(Debug, Default)]
pub(super) struct Files {
    told: HashMap<String, (FileInfo, Option<Instant>)>,
}

/// What to do at one registration.
#[derive(Debug, PartialEq)]
pub(super) struct Turn {
    /// Files to register.
    pub(super) files: Vec<FileInfo>,
    /// Files to provide no longer.
    pub(super) gone: Vec<FileInfo>,
}

impl Files {
    /// Of what there is now: what has not been told, or with `all` everything, or was told half an interval ago: so
    /// that a folder that changes all the time lets nothing expire. Of several files with one content the first counts.
    pub(super) fn next(&mut self, there: Vec<FileInfo>, all: bool, refresh: Duration, now: Instant) -> Turn {
        let (mut told, mut files, mut left_out) = (HashMap::new(), Vec::new(), 0);
        for file in there {
            if told.contains_key(&file.info_hash) {
                continue;
            }
            if told.len() >= MAX_FILES_PER_PEER {
                left_out += 1;
                continue;
            }
            let stored = self.told.remove(&file.info_hash).and_then(|(_, stored)| stored);
            if all || stored.is_none_or(|at| now.saturating_duration_since(at) >= refresh / 2) {
                files.push(file.clone());
            }
            told.insert(file.info_hash.clone(), (file, stored));
        }
        if left_out > 0 {
            tracing::warn!(left_out, "files beyond {MAX_FILES_PER_PEER} are not registered in the DHT");
        }
        let gone = std::mem::replace(&mut self.told, told).into_values().map(|(file, _)| file).collect();
        Turn { files, gone }
    }

    /// Whether a file of this turn has not been told of before.
    pub(super) fn is_new(&self, file: &FileInfo) -> bool {
        self.told.get(&file.info_hash).is_none_or(|(_, stored)| stored.is_none())
    }

    /// How a registration ended. The first time is worth a line, and every failure.
    pub(super) fn on_registered(
        &mut self,
        file: FileInfo,
        result: Result<(), String>,
        now: Instant,
    ) -> Option<JoinReport> {
        // It may have gone meanwhile.
        let (_, stored) = self.told.get_mut(&file.info_hash)?;
        match result {
            Ok(()) => stored.replace(now).is_none().then_some(JoinReport::FileRegistered { file }),
            Err(error) => {
                *stored = None;
                Some(JoinReport::FileNotRegistered { file, error })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFRESH: Duration = Duration::from_secs(300);

    fn file(number: u32, name: &str) -> FileInfo {
        FileInfo { info_hash: format!("{number:064x}"), name: name.into(), size: 1, plan: None }
    }

    #[test]
    fn a_file_is_told_when_it_comes_and_again_before_it_expires() {
        let (start, mut files) = (Instant::now(), Files::default());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let (a, b, c) = (file(1, "a"), file(2, "b"), file(3, "c"));
        let turn = |files: &[&FileInfo], gone: &[&FileInfo]| Turn {
            files: files.iter().copied().cloned().collect(),
            gone: gone.iter().copied().cloned().collect(),
        };
        let stored = |files: &mut Files, one: &FileInfo, seconds: u64| {
            files.on_registered(one.clone(), Ok(()), at(seconds))
        };
        let registered = |file: &FileInfo| Some(JoinReport::FileRegistered { file: file.clone() });

        let there = || vec![a.clone(), b.clone(), file(1, "the same by another name")];
        assert_eq!(files.next(there(), true, REFRESH, at(0)), turn(&[&a, &b], &[]));
        assert!(files.is_new(&a));
        assert_eq!(stored(&mut files, &a, 1), registered(&a));
        let failed = files.on_registered(b.clone(), Err("why".into()), at(1));
        assert_eq!(failed, Some(JoinReport::FileNotRegistered { file: b.clone(), error: "why".into() }));
        // What is stored is not told again for every other file, and what failed is.
        assert_eq!(files.next(there(), false, REFRESH, at(6)), turn(&[&b], &[]));
        assert_eq!(stored(&mut files, &b, 7), registered(&b));
        assert_eq!(
            files.next(vec![a.clone(), b.clone(), c.clone()], false, REFRESH, at(100)),
            turn(&[&c], &[])
        );
        assert_eq!(stored(&mut files, &c, 101), registered(&c));
        // A bootstrap that is reached again hears all; nobody reads it twice.
        assert!(!files.is_new(&a));
        assert_eq!(files.next(there(), true, REFRESH, at(110)).files, [a.clone(), b.clone()]);
        assert_eq!(stored(&mut files, &a, 111), None);
        // Half an interval later, whatever made it come.
        assert_eq!(files.next(there(), false, REFRESH, at(200)), turn(&[&b], &[]));
        // One that has gone, also while it was being told.
        assert_eq!(files.next(vec![b.clone()], false, REFRESH, at(201)), turn(&[&b], &[&a]));
        assert_eq!(stored(&mut files, &a, 202), None);
    }

    #[test]
    fn no_more_are_told_than_peers_store() {
        let mut files = Files::default();
        let many: Vec<_> = (0..MAX_FILES_PER_PEER as u32 + 5).map(|number| file(number, "f")).collect();
        let turn = files.next(many, true, REFRESH, Instant::now());
        assert_eq!((turn.files.len(), turn.gone.len()), (MAX_FILES_PER_PEER, 0));
    }
}
