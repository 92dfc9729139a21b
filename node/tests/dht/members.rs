//! Who belongs to the cluster beside the shards, and the secret that all of them know.

use std::sync::Arc;
use std::time::Duration;

use shard_node::cluster::ClusterView;
use shard_node::config::Transport;
use shard_node::net::DhtMode;
use shard_node::watch::{Members, Watched};
use shard_wire::announce::ReplicaState;
use shard_wire::keys::Role;
use tokio::sync::watch;

use crate::common::{Peer, secrets};
use crate::harness::{Member, Shown, member, shard, watch_config};

struct Others(watch::Receiver<Arc<Members>>);

impl Others {
    async fn until(&mut self, wanted: impl Fn(&Members) -> bool) -> Arc<Members> {
        let last = self.0.clone();
        match tokio::time::timeout(Duration::from_secs(40), self.0.wait_for(|members| wanted(members))).await
        {
            Ok(members) => members.unwrap().clone(),
            Err(_) => panic!("not within 40 s: {:#?}", last.borrow()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spares_and_gateways_are_found_and_leave() {
    for closed in [false, true] {
        let start = async |dht| {
            Peer::with(dht, Transport::Tcp, |config| config.secrets = secrets(&["a"]).filter(|_| closed))
                .await
        };
        let bootstrap = start(DhtMode::Server).await;
        let entry = bootstrap.addresses().await;
        let spare = Member::join(start(DhtMode::Server).await, &entry, Some(vec![]));
        spare.role.send_replace(Some(member(Role::Spare)));
        let gateway = Member::join(start(DhtMode::Client).await, &entry, Some(vec![]));
        gateway.role.send_replace(Some(member(Role::Gateway)));

        let coordinator = Member::join(start(DhtMode::Client).await, &entry, Some(vec![]));
        coordinator.role.send_replace(Some(member(Role::Gateway)));
        let Watched { view, members } =
            shard_node::watch::spawn_with_members(coordinator.peer.network.clone(), watch_config());
        let (mut shown, mut others) = (Shown(view), Others(members));
        let of = |members: &Members, wanted: &Member| {
            members.all.iter().find(|one| one.peer == wanted.peer.network.local_peer()).cloned()
        };
        let all = others
            .until(|now| now.spares().any(|spare| spare.connected) && now.gateways().count() == 2)
            .await;
        let found = of(&all, &spare).unwrap();
        assert_eq!((found.role, found.capabilities.cpu_cores), (Role::Spare, 3));
        assert!(found.announced_ms >= found.incarnation && !found.addresses.is_empty());
        assert!(of(&all, &coordinator).unwrap().connected && !of(&all, &gateway).unwrap().connected);

        // The spare gets a shard: it is a spare no longer.
        spare.shards.send_replace(vec![shard(0, ReplicaState::Ready)]);
        spare.role.send_replace(None);
        others.until(|now| now.spares().count() == 0).await;
        shown.until(|view| view.serving().count() == 1).await;
        gateway.joiner.leave().await;
        others.until(|now| now.gateways().count() == 1).await;
    }
}

/// Every program is in another step of the change from one secret to the next: who is beside it still finds it.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_changes_its_secret_without_an_outage() {
    for (first, second) in
        [(&["old"][..], &["old", "new"][..]), (&["old", "new"], &["new", "old"]), (&["new", "old"], &["new"])]
    {
        let bootstrap = Peer::member(DhtMode::Server, Transport::Tcp, first).await;
        let entry = bootstrap.addresses().await;
        let mut nodes = Vec::new();
        for (id, names) in [(0, first), (1, second), (2, second)] {
            let peer = Peer::member(DhtMode::Server, Transport::Tcp, names).await;
            nodes.push(Member::join(peer, &entry, Some(vec![shard(id, ReplicaState::Ready)])));
        }
        for names in [first, second] {
            let peer = Peer::member(DhtMode::Client, Transport::Tcp, names).await;
            let reader = Member::join(peer, &entry, None);
            let mut shown = Shown(shard_node::watch::spawn(reader.peer.network.clone(), watch_config()));
            shown.until(ClusterView::complete).await;
        }
    }
}
