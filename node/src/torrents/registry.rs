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
mod tests {
    use super::*;

    fn file(name: &str, hash: &str) -> TorrentFile {
        TorrentFile { name: name.into(), size: 1, info_hash: hash.repeat(64), seeders: Vec::new() }
    }

    fn plan(name: &str, origin: bool) -> TorrentPlan {
        TorrentPlan { plan: name.into(), origin, seeders: Vec::new() }
    }

    fn has(files: &[TorrentFile], plans: &[TorrentPlan]) -> Torrents {
        Torrents { files: files.to_vec(), plans: plans.to_vec(), origin: None }
    }

    #[test]
    fn a_bootstrap_tells_the_union_of_what_it_heard_and_forgets_who_is_gone() {
        let [me, a, b] = [(); 3].map(|()| PeerId::random());
        let mut registry = Registry::new(me);
        assert!(registry.own(has(&[file("tokenizer.gguf", "0")], &[plan("p", true)])));
        assert!(!registry.own(has(&[file("tokenizer.gguf", "0")], &[plan("p", true)])));
        assert_eq!(registry.on_report(a, has(&[file("shard-0.gguf", "1")], &[])), Ok(true));
        assert_eq!(registry.on_report(a, has(&[file("shard-0.gguf", "1")], &[])), Ok(false));
        let both = has(&[file("shard-0.gguf", "1"), file("shard-1.gguf", "2")], &[plan("p", false)]);
        registry.on_report(b, both).unwrap();

        let union = registry.union();
        let names: Vec<_> = union.files.iter().map(|file| (file.name.as_str(), file.seeders.len())).collect();
        assert_eq!(names, [("shard-0.gguf", 2), ("shard-1.gguf", 1), ("tokenizer.gguf", 1)]);
        assert!(union.plans[0].origin && union.plans[0].seeders.len() == 2, "{union:?}");
        assert!(union.check().is_ok());

        assert!(registry.forget(&a) && !registry.forget(&a));
        assert_eq!(registry.seeders(&"1".repeat(64)), [b]);
        assert_eq!(registry.seeders(&"0".repeat(64)), [], "what is here is nobody else's");
    }

    #[test]
    fn a_node_reads_the_union_of_its_bootstrap() {
        let [me, bootstrap, other] = [(); 3].map(|()| PeerId::random());
        let mut registry = Registry::new(me);
        let mut known = file("shard-0.gguf", "1");
        known.seeders = vec![other.to_string(), me.to_string(), "nobody".into()];
        registry.on_report(bootstrap, has(&[known], &[plan("p", true)])).unwrap();
        assert_eq!(registry.seeders(&"1".repeat(64)), [other]);
        assert_eq!(registry.manifest_seeders("p"), [bootstrap]);
        assert_eq!(registry.list(""), Some(FileList::default()));
        assert_eq!(registry.list("shard-0.gguf"), None, "it seeds none itself");
    }

    #[test]
    fn a_swarm_is_whole_when_each_file_is_somewhere() {
        let (me, bootstrap) = (PeerId::random(), PeerId::random());
        let mut registry = Registry::new(me);
        let (a, b) = ("1".repeat(64), "2".repeat(64));
        registry.own(has(&[file("shard-0.gguf", "1")], &[]));
        assert!(registry.all_seeded([a.as_str()]));
        assert!(!registry.all_seeded([a.as_str(), b.as_str()]));
        registry.on_report(bootstrap, has(&[file("shard-1.gguf", "2")], &[])).unwrap();
        assert!(registry.all_seeded([a.as_str(), b.as_str()]));
        registry.forget(&bootstrap);
        assert!(!registry.all_seeded([a.as_str(), b.as_str()]));
    }

    #[test]
    fn the_plan_of_an_origin_is_adopted_and_any_other_only_by_who_has_none() {
        let [me, a, b] = [(); 3].map(|()| PeerId::random());
        let mut registry = Registry::new(me);
        assert_eq!(registry.plan_to_adopt(None), None);
        registry.on_report(a, has(&[], &[plan("p", false)])).unwrap();
        assert_eq!(registry.plan_to_adopt(None), Some("p".into()));
        assert_eq!(registry.plan_to_adopt(Some("mine")), None);
        registry.on_report(b, has(&[], &[plan("q", true)])).unwrap();
        for own in [None, Some("mine"), Some("p")] {
            assert_eq!(registry.plan_to_adopt(own), Some("q".into()), "{own:?}");
        }
        assert_eq!(registry.plan_to_adopt(Some("q")), None);
    }

    #[test]
    fn of_several_origins_the_one_that_changed_last_counts() {
        let [me, a, b] = [(); 3].map(|()| PeerId::random());
        let mut registry = Registry::new(me);
        registry.on_report(a, has(&[], &[plan("old", true)])).unwrap();
        registry.on_report(b, has(&[], &[plan("new", true)])).unwrap();
        assert_eq!(registry.origin_plan(), Some("new"));
        // Another word on the same plan.
        registry.on_report(a, has(&[file("f", "1")], &[plan("old", true)])).unwrap();
        assert_eq!(registry.origin_plan(), Some("new"));
        // It is started anew, and reads its model first.
        registry.on_report(b, has(&[], &[])).unwrap();
        assert_eq!(registry.origin_plan(), Some("old"));
        registry.on_report(a, has(&[], &[plan("newer", true)])).unwrap();
        registry.on_report(b, has(&[], &[plan("new", true)])).unwrap();
        assert_eq!(registry.origin_plan(), Some("new"));
        registry.forget(&b);
        assert_eq!(registry.origin_plan(), Some("newer"));
        registry.own(has(&[], &[plan("mine", true)]));
        assert_eq!(registry.origin_plan(), Some("mine"));
    }

    #[test]
    fn the_start_of_an_origin_is_told_while_it_is_there() {
        let [me, old, new] = [(); 3].map(|()| PeerId::random());
        let mut registry = Registry::new(me);
        let says = |percent, incarnation: &str| {
            let incarnation = incarnation.to_owned();
            let origin = OriginProgress { percent, incarnation, ..OriginProgress::default() };
            Torrents { origin: Some(origin), ..Torrents::default() }
        };
        let told = |registry: &Registry| {
            registry.origin().map(|origin| (origin.percent, origin.incarnation)).unwrap()
        };
        assert_eq!(registry.on_report(old, says(100, "1")), Ok(true));
        assert_eq!(told(&registry), (100, "1".into()));
        assert!(registry.left(&old) && !registry.left(&old) && !registry.left(&new));
        assert_eq!(told(&registry), (100, String::new()));
        assert_eq!(registry.on_report(new, says(5, "2")), Ok(true));
        assert_eq!(told(&registry), (5, "2".into()), "it is there");
        // The first one lost its connection only.
        assert_eq!(registry.on_report(old, says(100, "1")), Ok(true));
        assert_eq!(told(&registry), (100, "1".into()));
    }

    #[test]
    fn of_several_origins_one_is_told_of_with_its_own_plan() {
        let [me, one, other] = [(); 3].map(|()| PeerId::random());
        let mut registry = Registry::new(me);
        let says = |percent, wire_version, plans: &[TorrentPlan]| {
            let origin = OriginProgress { percent, wire_version, ..OriginProgress::default() };
            Torrents { origin: Some(origin), ..has(&[], plans) }
        };
        let told = |registry: &Registry| {
            let version = registry.origin().map(|origin| origin.wire_version);
            (version, registry.plan_of_origin().map(str::to_owned))
        };
        registry.on_report(one, says(100, 1, &[plan("p", true)])).unwrap();
        registry.on_report(other, says(5, 2, &[])).unwrap();
        assert_eq!(told(&registry), (Some(1), Some("p".into())));
        // The first one begins anew: what it had is where to ask, and not what the other one has made.
        registry.left(&one);
        assert_eq!((told(&registry), registry.origin_plan()), ((Some(2), None), Some("p")));
        registry.on_report(one, says(100, 1, &[plan("p", true)])).unwrap();
        registry.on_report(other, says(100, 2, &[plan("q", true)])).unwrap();
        assert_eq!(told(&registry), (Some(2), Some("q".into())), "it is the one to follow");
    }

    #[test]
    fn a_plan_is_of_the_wire_version_that_its_origin_speaks() {
        let [me, bootstrap] = [(); 2].map(|()| PeerId::random());
        let mut registry = Registry::new(me);
        assert_eq!(registry.wire_version("p"), frame::VERSION);
        for (told, expected) in [(0, frame::VERSION), (9, 9)] {
            let origin = OriginProgress { wire_version: told, ..OriginProgress::default() };
            let report =
                Torrents { origin: Some(origin), ..has(&[], &[plan("p", true), plan("old", false)]) };
            registry.on_report(bootstrap, report).unwrap();
            assert_eq!(registry.wire_version("p"), expected);
            assert_eq!(registry.wire_version("old"), frame::VERSION, "it is not the origin's");
        }
    }

    #[test]
    fn what_peers_say_is_bounded_in_all() {
        let mut registry = Registry::new(PeerId::random());
        let many = |n: usize| has(&vec![file("a", "1"); n], &[]);
        for _ in 0..MAX_ENTRIES / MAX_FILES {
            registry.on_report(PeerId::random(), many(MAX_FILES)).unwrap();
        }
        assert_eq!(registry.on_report(PeerId::random(), many(1)), Err(Full));
        assert_eq!(registry.entries, MAX_ENTRIES);
        let someone = *registry.reports.keys().next().unwrap();
        assert_eq!(registry.on_report(someone, many(1)), Ok(true), "who says less makes room");
        assert_eq!(registry.on_report(PeerId::random(), many(1)), Ok(true));
    }
}
