//! A download that is killed goes on from where it was.

use shard_node::config::Transport;
use shard_node::torrent::serve::ShelfOptions;

use crate::common::deadline;
use crate::harness::{MIB, Made, NAME, Node, fetched, names, sum};

/// What a node may have asked for that it had no time to write.
const WINDOW: u64 = 16 * MIB;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_download_fetches_at_most_a_window_twice() {
    let made = Made::new(40, 20);
    let options = ShelfOptions { upload_limit: Some(30 * MIB), ..ShelfOptions::default() };
    let seeder = Node::seeder(&made, Transport::Tcp, options).await;
    for stop_at in [1, 5 * MIB, 13 * MIB + 7, 31 * MIB] {
        let before = seeder.given(&made).0;
        let node = Node::start(Transport::Tcp).await;
        node.dial(&seeder.peer).await;
        let download = node.fetch(&made, &[seeder.id()]);
        let stopped = fetched(&download, stop_at).await;
        drop(download);
        assert_eq!(names(node.folder.path()), [format!("{NAME}.part"), format!("{NAME}.part.state")]);

        let progress = node.fetch_whole(&made, &[seeder.id()]).await;
        assert!(progress.reused >= stopped.fetched, "{stopped:?} then {progress:?}");
        assert_eq!(progress.reused + progress.fetched, sum(&made));
        let given = seeder.given(&made).0 - before;
        assert!(given <= sum(&made) + WINDOW, "{given} after a stop at {stop_at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_killed_while_it_looks_loses_nothing() {
    let made = Made::new(40, 23);
    let options = ShelfOptions { upload_limit: Some(30 * MIB), ..ShelfOptions::default() };
    let seeder = Node::seeder(&made, Transport::Tcp, options).await;
    let node = Node::start(Transport::Tcp).await;
    node.dial(&seeder.peer).await;
    let download = node.fetch(&made, &[seeder.id()]);
    let first = fetched(&download, 20 * MIB).await;
    drop(download);
    for reused in [0, 1, MIB, 5 * MIB, 19 * MIB] {
        let download = node.fetch(&made, &[]);
        let mut progress = download.progress();
        deadline(progress.wait_for(|progress| progress.reused >= reused)).await.unwrap();
    }
    let last = node.fetch_whole(&made, &[seeder.id()]).await;
    assert!(last.reused >= first.fetched, "{first:?} then {last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_downloads_of_one_file_fetch_it_once() {
    let made = Made::new(8, 22);
    let options = ShelfOptions { upload_limit: Some(8 * MIB), ..ShelfOptions::default() };
    let seeder = Node::seeder(&made, Transport::Tcp, options).await;
    let node = Node::start(Transport::Tcp).await;
    node.dial(&seeder.peer).await;
    let mut first = node.fetch(&made, &[seeder.id()]);
    fetched(&first, 1).await;
    let progress = node.fetch_whole_again(&made).await;
    assert_eq!((progress.fetched, progress.done), (0, made.size()), "it waited for the first");
    assert!(first.finished().await.is_ok());
    assert_eq!(seeder.given(&made).0, sum(&made));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_is_believed_only_when_its_hash_is_right() {
    let made = Made::new(10, 21);
    let options = ShelfOptions { upload_limit: Some(12 * MIB), ..ShelfOptions::default() };
    let seeder = Node::seeder(&made, Transport::Tcp, options).await;
    type Spoil = fn(&mut Vec<u8>, &mut Vec<u8>);
    let cases: [(&str, Spoil, bool); 6] = [
        (
            "all bits set, as after a power failure",
            |_, state| {
                let last = state.len() - 1;
                state[32..last].fill(0xff);
            },
            true,
        ),
        ("bytes changed", |part, _| part[2_000_000] ^= 1, true),
        ("a short file", |part, _| part.truncate(3_000_000), true),
        ("no state", |_, state| state.clear(), true),
        ("a longer state", |_, state| state.extend([0xff; 9]), true),
        ("of another file", |_, state| state[0] ^= 1, false),
    ];
    for (what, spoil, reuses) in cases {
        let node = Node::start(Transport::Tcp).await;
        node.dial(&seeder.peer).await;
        let download = node.fetch(&made, &[seeder.id()]);
        fetched(&download, 4 * MIB).await;
        drop(download);
        // Its threads may still write a piece: the next download waits for them, and so does this.
        let (part, state) = (
            node.folder.path().join(format!("{NAME}.part")),
            node.folder.path().join(format!("{NAME}.part.state")),
        );
        let lock = std::fs::File::open(&part).unwrap();
        lock.lock().unwrap();
        let (mut bytes, mut bits) = (std::fs::read(&part).unwrap(), std::fs::read(&state).unwrap());
        spoil(&mut bytes, &mut bits);
        std::fs::write(&part, bytes).unwrap();
        std::fs::write(&state, bits).unwrap();
        drop(lock);
        let progress = node.fetch_whole(&made, &[seeder.id()]).await;
        assert!(!reuses || what == "a longer state" || progress.reused > 0, "{what}: {progress:?}");
    }
}
