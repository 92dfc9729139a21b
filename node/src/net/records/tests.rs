use std::time::Duration;

use libp2p::identity::Keypair;
use shard_wire::announce::{
    Capabilities, FileAnnouncement, FileInfo, MemberAnnouncement, MemberInfo, SignedRecord,
};

use super::super::hex;
use super::signed::tests::announcement;
use super::*;

/// A record under its own key, by a new peer unless one is given.
fn by(keypair: &Keypair, make: impl Fn(String) -> (DhtKey, Vec<u8>)) -> Record {
    let (key, value) = make(keypair.public().to_peer_id().to_string());
    Record::new(RecordKey::new(&key.text("c")), value)
}

fn replica(keypair: &Keypair, id: u32) -> Record {
    by(keypair, |peer_id| {
        let value = signed::seal(keypair, None, 1, &announcement("c", &peer_id, id)).unwrap();
        (DhtKey::Replica(id, peer_id), value)
    })
}

fn file(keypair: &Keypair, number: usize) -> Record {
    by(keypair, |peer_id| {
        let info_hash = format!("{number:064x}");
        let file = FileInfo { info_hash: info_hash.clone(), name: "f".into(), size: 1, plan: None };
        let value = FileAnnouncement { cluster: "c".into(), peer_id, file };
        (DhtKey::File(info_hash), signed::seal(keypair, None, 1, &value).unwrap())
    })
}

fn member(keypair: &Keypair, role: Role) -> Record {
    by(keypair, |peer_id| {
        let value = MemberAnnouncement {
            cluster: "c".into(),
            peer_id: peer_id.clone(),
            incarnation: 1,
            listen_addresses: vec![],
            external_addresses: vec![],
            left: false,
            member: MemberInfo { role, capabilities: Capabilities::default() },
        };
        (DhtKey::Member(role, peer_id), signed::seal(keypair, None, 1, &value).unwrap())
    })
}

/// Fills the room of a kind with records of others, the first of them expired.
fn fill(table: &mut RecordTable, kind: Kind) {
    let now = Instant::now();
    for number in 0..kind.room().records {
        let expires = Some(now + Duration::from_secs(if number == 0 { 0 } else { 60 }));
        let record = Record { expires, ..Record::new(RecordKey::new(&format!("{number}")), vec![]) };
        let stored = Stored { kind, peer: PeerId::random(), sequence: 0, record };
        table.records.insert(stored.record.key.clone(), stored);
    }
}

#[test]
fn a_full_table_makes_room_for_what_has_not_expired() {
    let new = Keypair::generate_ed25519;
    for kind in [Kind::Shard, Kind::Member, Kind::File] {
        let mut table = RecordTable::new("c".into(), None);
        fill(&mut table, kind);
        let records = [replica(&new(), 0), member(&new(), Role::Gateway), file(&new(), 1)];
        let again = [replica(&new(), 0), member(&new(), Role::Gateway), file(&new(), 2)];
        for (at, (record, again)) in records.into_iter().zip(again).enumerate() {
            table.put(record.clone()).unwrap();
            table.put(record).unwrap();
            // Only the kind that is full is.
            assert_eq!(table.put(again).is_ok(), kind as usize != at);
        }
    }
}

#[test]
fn one_peer_has_its_share_of_the_files_and_leaves_the_rest_to_others() {
    let mut table = RecordTable::new("c".into(), None);
    let (greedy, other) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    for number in 0..MAX_FILES_PER_PEER {
        table.put(file(&greedy, number)).unwrap();
    }
    assert!(table.put(file(&greedy, MAX_FILES_PER_PEER)).is_err());
    table.put(file(&other, MAX_FILES_PER_PEER)).unwrap();
    // The other one announces a file of the first: its share is free again.
    table.put(file(&other, 0)).unwrap();
    table.put(file(&greedy, MAX_FILES_PER_PEER + 1)).unwrap();
    assert!(table.put(file(&greedy, 0)).is_err(), "and it has no room to take it back");
}

#[test]
fn a_closed_cluster_stores_what_members_made() {
    let secrets = |text: &str| Some(Secrets::parse(text.as_bytes(), "test").unwrap());
    let ours = secrets("a secret of at least 32 bytes, a text");
    let mut table = RecordTable::new("c".into(), ours.clone());
    let keypair = Keypair::generate_ed25519();
    let record = |secrets: Option<Secrets>| {
        by(&keypair, |peer_id| {
            let value = signed::seal(&keypair, secrets.as_ref(), 1, &announcement("c", &peer_id, 1)).unwrap();
            (DhtKey::Shard(1), value)
        })
    };
    assert!(table.put(record(None)).is_err());
    assert!(table.put(record(secrets("another one of at least 32 bytes, too"))).is_err());
    table.put(record(ours)).unwrap();
}

#[test]
fn nobody_announces_for_another() {
    let (keypair, other) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let (me, them) = (keypair.public().to_peer_id().to_string(), other.public().to_peer_id().to_string());
    let mine = DhtKey::Replica(1, me.clone()).text("c");
    let seal = |sequence, cluster: &str, peer: &str| {
        signed::seal(&keypair, None, sequence, &announcement(cluster, peer, 1)).unwrap()
    };
    let good = seal(7, "c", &me);
    let changed = |change: fn(&mut SignedRecord, &str)| {
        let mut record: SignedRecord = serde_json::from_slice(&good).unwrap();
        change(&mut record, &hex::encode(&other.public().encode_protobuf()));
        serde_json::to_vec(&record).unwrap()
    };
    let mut table = RecordTable::new("c".into(), None);
    let mut put = |key: &str, value: &[u8]| table.put(Record::new(RecordKey::new(&key), value.to_vec()));
    let refused: Vec<(&str, String, Vec<u8>)> = vec![
        ("another peer's key", DhtKey::Replica(1, them.clone()).text("c"), good.clone()),
        ("another shard's key", DhtKey::Shard(2).text("c"), good.clone()),
        ("a key of no kind", "anything".into(), good.clone()),
        ("a key without records", "c/spare".into(), good.clone()),
        ("a member's key", DhtKey::Member(Role::Spare, me.clone()).text("c"), good.clone()),
        ("a file's key", "0f".repeat(32), good.clone()),
        ("another cluster's record", mine.clone(), seal(7, "d", &me)),
        ("another peer's name", mine.clone(), seal(7, "c", &them)),
        ("a changed sequence", mine.clone(), changed(|record, _| record.sequence += 1)),
        (
            "a changed payload",
            mine.clone(),
            changed(|record, _| record.payload = record.payload.replace("\"m\"", "\"n\"")),
        ),
        ("another's public key", mine.clone(), changed(|record, key| record.public_key = key.to_owned())),
        ("no signature", mine.clone(), changed(|record, _| record.signature.clear())),
        ("no JSON", mine.clone(), b"\xff".to_vec()),
        ("too large", mine.clone(), vec![b' '; 9000]),
    ];
    for (what, key, value) in &refused {
        assert!(put(key, value).is_err(), "{what}");
    }
    put(&DhtKey::Shard(1).text("c"), &good).unwrap();
    put(&mine, &good).unwrap();
    put(&mine, &good).unwrap();
    assert!(put(&mine, &seal(6, "c", &me)).is_err(), "what was said before");
    put(&mine, &seal(8, "c", &me)).unwrap();
}
