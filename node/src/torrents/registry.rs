//! Who has which files and manifests, as they say themselves. Pure.
//!
//! A node tells its bootstraps what it has; a bootstrap tells everybody the union. These are hints where to ask: what a
//! peer gives is verified piece by piece, whoever named it.

use std::collections::{BTreeMap, HashMap, HashSet};

use libp2p::PeerId;
use shard_wire::command::{
    FileList, MAX_FILES, MAX_PLANS, MAX_SEEDERS, OriginProgress, TorrentFile, TorrentPlan, Torrents,
};
use shard_wire::frame;
use thiserror::Error;

/// Entries of all peers together: 256 nodes that each have 64 files, and room to spare.
const MAX_ENTRIES: usize = 32 * 1024;

/// What a peer says is more than is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{MAX_ENTRIES} files and plans of peers are remembered already")]
pub struct Full;

/// What this node and its peers have.
#[derive(Debug)]
pub struct Registry {
    local: PeerId,
    /// What this node itself has; its seeders are left out.
    own: Torrents,
    /// The last word of every peer.
    reports: HashMap<PeerId, Torrents>,
    /// Those of them that are not connected.
    away: HashSet<PeerId>,
    /// Whose origin's plan became another one last: of several origins that differ, the others are to follow.
    latest_origin: Option<PeerId>,
    entries: usize,
}

impl Registry {
    /// Nothing is known yet.
    pub fn new(local: PeerId) -> Self {
        let (own, reports, away) = (Torrents::default(), HashMap::new(), HashSet::new());
        Self { local, own, reports, away, latest_origin: None, entries: 0 }
    }

    /// This node has these files, and the manifests of these plans. True where that is new.
    pub fn own(&mut self, own: Torrents) -> bool {
        let changed = self.own != own;
        self.own = own;
        changed
    }

    /// What this node itself has, for those that it tells.
    pub fn mine(&self) -> Torrents {
        self.own.clone()
    }

    /// Answer to `LIST_FILES`; `None` where it has no file of that name.
    pub fn list(&self, name: &str) -> Option<FileList> {
        let wanted = |file: &&TorrentFile| name.is_empty() || file.name == name;
        let files: Vec<TorrentFile> = self.own.files.iter().filter(wanted).cloned().collect();
        (name.is_empty() || !files.is_empty()).then_some(FileList { files })
    }

    /// A peer says what it knows, in place of what it said before. True where that is new.
    ///
    /// # Errors
    /// [`Full`]; what it said before still holds.
    pub fn on_report(&mut self, peer: PeerId, report: Torrents) -> Result<bool, Full> {
        let size = |report: &Torrents| report.files.len() + report.plans.len();
        let old = self.reports.get(&peer);
        if old == Some(&report) {
            return Ok(self.away.remove(&peer));
        }
        let entries = self.entries - old.map_or(0, size) + size(&report);
        if entries > MAX_ENTRIES {
            return Err(Full);
        }
        self.entries = entries;
        let plan = origin_plan(&report);
        if plan.is_some() && plan != old.and_then(origin_plan) {
            self.latest_origin = Some(peer);
        }
        self.away.remove(&peer);
        self.reports.insert(peer, report);
        Ok(true)
    }

    /// Peers that have said something: as many as are connected at most.
    pub fn members(&self) -> Vec<PeerId> {
        self.reports.keys().copied().collect()
    }

    /// A peer is gone, and what it said holds. True where it had said something.
    pub fn left(&mut self, peer: &PeerId) -> bool {
        self.reports.contains_key(peer) && self.away.insert(*peer)
    }

    /// A peer is gone, and what it said with it. True where it had said something.
    pub fn forget(&mut self, peer: &PeerId) -> bool {
        self.away.remove(peer);
        let Some(report) = self.reports.remove(peer) else { return false };
        self.entries -= report.files.len() + report.plans.len();
        true
    }

    /// Everything that anybody has, as a bootstrap tells it: within the bounds of one message.
    pub fn union(&self) -> Torrents {
        let mut files: BTreeMap<(String, String), TorrentFile> = BTreeMap::new();
        let mut plans: BTreeMap<String, TorrentPlan> = BTreeMap::new();
        let reports = self.reports.iter().map(|(peer, report)| (*peer, report));
        for (peer, report) in [(self.local, &self.own)].into_iter().chain(reports) {
            for file in &report.files {
                let key = (file.name.clone(), file.info_hash.clone());
                if files.len() < MAX_FILES || files.contains_key(&key) {
                    let entry = files
                        .entry(key)
                        .or_insert_with(|| TorrentFile { seeders: Vec::new(), ..file.clone() });
                    merge(&mut entry.seeders, &file.seeders, peer);
                }
            }
            for plan in &report.plans {
                if plans.len() < MAX_PLANS || plans.contains_key(&plan.plan) {
                    let entry = plans
                        .entry(plan.plan.clone())
                        .or_insert_with(|| TorrentPlan { plan: plan.plan.clone(), ..TorrentPlan::default() });
                    entry.origin |= plan.origin;
                    merge(&mut entry.seeders, &plan.seeders, peer);
                }
            }
        }
        Torrents {
            files: files.into_values().collect(),
            plans: plans.into_values().collect(),
            origin: self.origin(),
        }
    }

    /// How far the origin is: this node, or what others say of theirs. The start of one that is away is not told: another
    /// one may have begun.
    pub fn origin(&self) -> Option<OriginProgress> {
        let (is_there, report) = self.leading()?;
        let origin = report.origin.clone()?;
        Some(if is_there { origin } else { OriginProgress { incarnation: String::new(), ..origin } })
    }

    /// The plan that the origin has made of which [`Self::origin`] tells: of several, another one may have made one.
    pub fn plan_of_origin(&self) -> Option<&str> {
        origin_plan(self.leading()?.1)
    }

    /// Whose origin is told of, and whether it is there: this node, else of several that are there and get on the one that
    /// is furthest.
    fn leading(&self) -> Option<(bool, &Torrents)> {
        if self.own.origin.is_some() {
            return Some((true, &self.own));
        }
        let others = self.reports.iter().filter_map(|(peer, report)| {
            let OriginProgress { error, percent, bytes, .. } = report.origin.as_ref()?;
            let (is_there, is_latest) = (!self.away.contains(peer), self.latest_origin == Some(*peer));
            Some(((is_there, error.is_empty(), *percent, is_latest, *bytes), report))
        });
        let ((is_there, ..), report) = others.max_by_key(|(worth, _)| *worth)?;
        Some((is_there, report))
    }

    /// How far this node is, where it is an origin.
    pub fn own_origin(&self) -> Option<OriginProgress> {
        self.own.origin.clone()
    }

    /// The plan that an origin has made: this node, or others.
    pub fn origin_plan(&self) -> Option<&str> {
        let latest = self.latest_origin.and_then(|peer| self.reports.get(&peer));
        let others = latest.into_iter().chain(self.reports.values());
        [&self.own].into_iter().chain(others).find_map(origin_plan)
    }

    /// The wire version that a plan is of: what the origin says whose plan it is, else this node's own.
    pub fn wire_version(&self, plan: &str) -> u8 {
        let is_its_origin = |report: &&Torrents| origin_plan(report) == Some(plan);
        let report = self.reports.values().find(is_its_origin);
        let told = report.and_then(|report| report.origin.as_ref()).map(|origin| origin.wire_version);
        told.filter(|version| *version != 0).unwrap_or(frame::VERSION)
    }

    /// Others that have a file.
    pub fn seeders(&self, info_hash: &str) -> Vec<PeerId> {
        let named = self.reports.iter().flat_map(|(peer, report)| {
            let file = report.files.iter().find(|file| file.info_hash == info_hash);
            file.into_iter().flat_map(|file| parsed(&file.seeders, *peer))
        });
        self.others(named)
    }

    /// Somebody, this node or another one, has each of these files.
    pub fn all_seeded<'a>(&self, hashes: impl IntoIterator<Item = &'a str>) -> bool {
        let named = |report: &Torrents, hash: &str| report.files.iter().any(|file| file.info_hash == hash);
        hashes
            .into_iter()
            .all(|hash| named(&self.own, hash) || self.reports.values().any(|report| named(report, hash)))
    }

    /// Others that have the manifest of a plan.
    pub fn manifest_seeders(&self, plan: &str) -> Vec<PeerId> {
        let named = self.reports.iter().flat_map(|(peer, report)| {
            let entry = report.plans.iter().find(|entry| entry.plan == plan);
            entry.into_iter().flat_map(|entry| parsed(&entry.seeders, *peer))
        });
        self.others(named)
    }

    fn others(&self, peers: impl Iterator<Item = PeerId>) -> Vec<PeerId> {
        let mut peers: Vec<PeerId> = peers.filter(|peer| *peer != self.local).collect();
        peers.sort_unstable();
        peers.dedup();
        peers
    }

    /// The plan that a node without one, or with `own`, is to serve: what an origin has made of the model; else, for a
    /// node without one, the plan with the most seeders. `None` where `own` is right or nothing is known.
    pub fn plan_to_adopt(&self, own: Option<&str>) -> Option<String> {
        if let Some(origin) = self.origin_plan() {
            return (own != Some(origin)).then(|| origin.to_owned());
        }
        if own.is_some() {
            return None;
        }
        self.union().plans.into_iter().max_by_key(|plan| plan.seeders.len()).map(|plan| plan.plan)
    }
}

fn origin_plan(report: &Torrents) -> Option<&str> {
    report.plans.iter().find(|plan| plan.origin).map(|plan| plan.plan.as_str())
}

/// Adds whom a report names; whoever names nobody means itself.
fn merge(seeders: &mut Vec<String>, named: &[String], peer: PeerId) {
    for name in parsed(named, peer).map(|peer| peer.to_string()) {
        if seeders.len() < MAX_SEEDERS && !seeders.contains(&name) {
            seeders.push(name);
        }
    }
}

fn parsed(named: &[String], peer: PeerId) -> impl Iterator<Item = PeerId> {
    let itself = named.is_empty().then_some(peer);
    named.iter().filter_map(|name| name.parse().ok()).chain(itself)
}

#[cfg(test)]
mod tests;
