//! Who may have a file: the providers of its hash in the DHT, and whoever the caller knows.

use std::time::Duration;

use libp2p::PeerId;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::net::Network;

/// Between lookups; the first ones come sooner, since nodes that begin together find one another then.
const INTERVAL: Duration = Duration::from_secs(15);
const FIRST_INTERVAL: Duration = Duration::from_secs(2);
const FIRST: u32 = 5;
/// One lookup takes no longer: it is asked again.
const LOOKUP: Duration = Duration::from_secs(20);
/// More than a download uses, so that those which fail have others behind them.
const MOST: usize = 64;

/// Follows who may have the file with this hash, until nobody listens. `known` come first; they may change, too.
pub fn follow(
    network: Network,
    sha256: String,
    mut known: watch::Receiver<Vec<PeerId>>,
) -> watch::Receiver<Vec<PeerId>> {
    let first = merge(&network, &known.borrow_and_update(), &[]);
    let (sender, receiver) = watch::channel(first);
    tokio::spawn(async move {
        let (mut found, mut lookups) = (Vec::new(), 0);
        let mut known_is_open = true;
        let mut next = Instant::now();
        loop {
            tokio::select! {
                () = sender.closed() => return,
                changed = known.changed(), if known_is_open => known_is_open = changed.is_ok(),
                () = sleep_until(next) => {
                    found = lookup(&network, &sha256, found).await;
                    lookups += 1;
                    next = Instant::now() + if lookups < FIRST { FIRST_INTERVAL } else { INTERVAL };
                }
            }
            let all = merge(&network, &known.borrow_and_update(), &found);
            sender.send_if_modified(|before| {
                let changed = *before != all;
                *before = all;
                changed
            });
        }
    });
    receiver
}

/// A lookup that finds nobody says nothing: those of the last one stay.
async fn lookup(network: &Network, sha256: &str, before: Vec<PeerId>) -> Vec<PeerId> {
    let mut found = Vec::new();
    let all = async {
        let mut providers = network.get_providers(sha256.to_owned()).await;
        while let Some(peer) = providers.recv().await {
            if found.len() < MOST && !found.contains(&peer) {
                found.push(peer);
            }
        }
    };
    let _ = timeout(LOOKUP, all).await;
    if found.is_empty() { before } else { found }
}

fn merge(network: &Network, known: &[PeerId], found: &[PeerId]) -> Vec<PeerId> {
    let mut all = Vec::new();
    for peer in known.iter().chain(found) {
        if *peer != network.local_peer() && all.len() < MOST && !all.contains(peer) {
            all.push(*peer);
        }
    }
    all
}
