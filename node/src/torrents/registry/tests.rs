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
    let told =
        |registry: &Registry| registry.origin().map(|origin| (origin.percent, origin.incarnation)).unwrap();
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
        let report = Torrents { origin: Some(origin), ..has(&[], &[plan("p", true), plan("old", false)]) };
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
