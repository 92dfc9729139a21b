//! All nodes, as far as losing them goes: they are the cluster's, and no ShardCluster's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::runtime::watcher::Event;
use tokio::sync::watch;

use crate::nodes::NodeView;

/// The nodes.
#[derive(Debug)]
pub struct NodeShelf {
    held: Mutex<Held>,
    filled: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Held {
    nodes: HashMap<String, NodeView>,
    /// While a list is on its way: what it has shown.
    listed: Option<HashMap<String, NodeView>>,
    /// What reconciles are given: made anew when a node has changed, and not for each of them.
    all: Arc<[NodeView]>,
}

impl Default for NodeShelf {
    fn default() -> Self {
        Self { held: Mutex::default(), filled: watch::Sender::new(false) }
    }
}

impl NodeShelf {
    /// Every node, by name.
    pub fn all(&self) -> Arc<[NodeView]> {
        Arc::clone(&self.lock().all)
    }

    /// Returns when nodes have been listed once.
    pub async fn filled(&self) {
        // The sender is here: it cannot be gone.
        let _ = self.filled.subscribe().wait_for(|filled| *filled).await;
    }

    /// Whether a node is other than it was, and somebody may have seen it: a kubelet's word that all is as before is no news.
    pub(super) fn take(&self, event: Event<Node>) -> bool {
        let mut held = self.lock();
        let changed = match event {
            Event::Init => {
                held.listed = Some(HashMap::new());
                false
            }
            Event::InitApply(node) => {
                let view = NodeView::from(&node);
                held.listed.get_or_insert_default().insert(node.name_any(), view);
                false
            }
            Event::InitDone => {
                let listed = held.listed.take().unwrap_or_default();
                let changed = listed != held.nodes;
                held.nodes = listed;
                changed
            }
            Event::Apply(node) => {
                let view = NodeView::from(&node);
                held.nodes.insert(node.name_any(), view.clone()) != Some(view)
            }
            Event::Delete(node) => held.nodes.remove(&node.name_any()).is_some(),
        };
        if changed {
            let mut all: Vec<NodeView> = held.nodes.values().cloned().collect();
            all.sort_by(|one, other| one.name.cmp(&other.name));
            held.all = all.into();
        }
        let seen = if held.listed.is_none() { self.filled.send_replace(true) } else { true };
        changed && seen
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, ready: &str) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "status": {"conditions": [
                {"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"},
            ]},
        }))
        .unwrap()
    }

    #[test]
    fn news_is_a_node_that_is_lost_found_new_or_gone() {
        let shelf = NodeShelf::default();
        let names = || shelf.all().iter().map(|node| node.name.clone()).collect::<Vec<_>>();
        for first in [Event::Init, Event::InitApply(node("b", "True")), Event::InitApply(node("a", "True"))] {
            assert!(!shelf.take(first));
        }
        assert!(!shelf.take(Event::InitDone), "nobody has looked before the list is whole");
        assert_eq!(names(), ["a", "b"]);
        assert!(!shelf.take(Event::Apply(node("a", "True"))), "a heartbeat");
        assert!(shelf.take(Event::Apply(node("a", "Unknown"))));
        assert!(shelf.all()[0].unreachable_since.is_some());
        assert!(shelf.take(Event::Delete(node("b", "True"))));
        shelf.take(Event::Init);
        shelf.take(Event::InitApply(node("c", "True")));
        assert_eq!(names(), ["a"], "a list that is not whole hides nothing");
        assert!(shelf.take(Event::InitDone));
        assert_eq!(names(), ["c"]);
    }
}
