//! All objects of one kind, by ShardCluster: as packed JSON, which takes a fraction of the memory that the types take.

mod held;
mod packed;

use std::marker::PhantomData;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kube::runtime::watcher::Event;
use tokio::sync::watch;

use super::{ClusterRef, Shelved};
use held::Held;
pub use packed::UnpackError;

/// Objects of one kind.
#[derive(Debug)]
pub struct Shelf<K> {
    held: Mutex<Held>,
    filled: watch::Sender<bool>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Default for Shelf<K> {
    fn default() -> Self {
        Self { held: Mutex::default(), filled: watch::Sender::new(false), kind: PhantomData }
    }
}

impl<K: Shelved> Shelf<K> {
    /// The objects of a ShardCluster, by name.
    ///
    /// # Errors
    /// Where what was put here cannot be read: a fault of this program.
    pub fn of(&self, cluster: &ClusterRef) -> Result<Vec<K>, UnpackError> {
        self.lock().of(cluster)
    }

    /// Every ShardCluster that has some.
    pub(super) fn clusters(&self) -> Vec<ClusterRef> {
        self.lock().clusters()
    }

    /// What was just written, so that the next reconcile sees it though the watch has not told of it yet.
    pub fn put(&self, object: K) {
        self.lock().put_written(object);
    }

    /// Returns when the kind has been listed once.
    pub async fn filled(&self) {
        // The sender is here: it cannot be gone.
        let _ = self.filled.subscribe().wait_for(|filled| *filled).await;
    }

    /// The ShardClusters of which something is other than it was.
    pub(super) fn take(&self, event: Event<K>) -> Vec<ClusterRef> {
        let mut held = self.lock();
        match event {
            Event::Init => {
                held.expect_list();
                Vec::new()
            }
            Event::InitApply(object) | Event::Apply(object) => {
                let changed = held.put_told(object);
                // Nobody looks before the first list is whole.
                if *self.filled.borrow() { changed } else { Vec::new() }
            }
            Event::Delete(object) => held.remove(&object).into_iter().collect(),
            Event::InitDone => {
                let changed = held.only_listed();
                self.filled.send_replace(true);
                changed
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use kube::ResourceExt;
    use serde_json::{Value, json};

    use super::*;
    use crate::desired::meta::INSTANCE;

    fn service(name: &str, version: &str, port: u16) -> Service {
        let labels: Value = json!({INSTANCE: "tiny"});
        serde_json::from_value(json!({
            "metadata": {
                "name": name, "namespace": "llm", "labels": labels, "resourceVersion": version,
                "managedFields": [{"manager": version}],
            },
            "spec": {"ports": [{"port": port}]},
        }))
        .unwrap()
    }

    fn ports(shelf: &Shelf<Service>) -> Vec<(String, i32)> {
        let all = shelf.of(&ClusterRef::new("tiny").within("llm")).unwrap();
        all.iter()
            .map(|one| (one.name_any(), one.spec.as_ref().unwrap().ports.as_ref().unwrap()[0].port))
            .collect()
    }

    #[test]
    fn news_is_what_differs_and_nothing_older_than_a_write() {
        let shelf = Shelf::<Service>::default();
        shelf.take(Event::Init);
        shelf.take(Event::InitDone);
        assert_eq!(shelf.take(Event::Apply(service("a", "5", 1))).len(), 1);
        assert!(shelf.take(Event::Apply(service("a", "6", 1))).is_empty(), "only the bookkeeping is new");
        shelf.put(service("a", "9", 2));
        assert!(shelf.take(Event::Apply(service("a", "9", 2))).is_empty(), "the echo of our own write");
        assert!(shelf.take(Event::Apply(service("a", "8", 3))).is_empty(), "older than our own write");
        assert!(shelf.take(Event::Delete(service("a", "8", 3))).is_empty(), "made anew since");
        assert_eq!(ports(&shelf), [("a".to_owned(), 2)]);
        assert_eq!(shelf.take(Event::Delete(service("a", "10", 2))).len(), 1);
        assert!(ports(&shelf).is_empty());
    }

    #[test]
    fn an_answer_that_is_later_than_the_deletion_brings_nothing_back() {
        let shelf = Shelf::<Service>::default();
        shelf.take(Event::Init);
        shelf.take(Event::InitDone);
        shelf.take(Event::Apply(service("a", "5", 1)));
        shelf.take(Event::Delete(service("a", "7", 2)));
        shelf.put(service("a", "6", 2));
        assert!(ports(&shelf).is_empty(), "written before it was deleted");
        shelf.put(service("a", "8", 3));
        assert_eq!(ports(&shelf), [("a".to_owned(), 3)], "made anew");
        assert_eq!(shelf.take(Event::Delete(service("a", "9", 3))).len(), 1);

        // A watch that has lost its place lists what there is, without what has gone meanwhile.
        shelf.put(service("a", "10", 4));
        shelf.take(Event::Init);
        shelf.take(Event::InitApply(service("b", "12", 1)));
        shelf.put(service("c", "11", 1));
        shelf.put(service("d", "13", 1));
        assert_eq!(ports(&shelf).len(), 4, "a page may have it that is still to come");
        shelf.take(Event::InitDone);
        shelf.put(service("a", "10", 4));
        assert_eq!(ports(&shelf), [("b".to_owned(), 1), ("d".to_owned(), 1)]);
    }

    #[test]
    fn a_new_list_is_all_there_is_and_nothing_is_missing_while_it_arrives() {
        let shelf = Shelf::<Service>::default();
        shelf.take(Event::Init);
        shelf.take(Event::InitApply(service("a", "1", 1)));
        shelf.take(Event::InitApply(service("b", "2", 1)));
        assert!(shelf.take(Event::InitDone).is_empty());

        shelf.take(Event::Init);
        assert_eq!(ports(&shelf).len(), 2);
        assert!(shelf.take(Event::InitApply(service("a", "1", 1))).is_empty());
        shelf.put(service("c", "7", 1));
        shelf.put(service("a", "8", 4));
        assert!(shelf.take(Event::InitApply(service("a", "1", 1))).is_empty(), "a list may be behind, too");
        assert_eq!(shelf.take(Event::InitDone).len(), 1, "b is gone");
        assert_eq!(ports(&shelf), [("a".to_owned(), 4), ("c".to_owned(), 1)]);
    }

    #[test]
    fn an_object_that_loses_its_label_or_gets_another_is_gone_from_where_it_was() {
        let shelf = Shelf::<Service>::default();
        shelf.take(Event::Init);
        shelf.take(Event::InitDone);
        let labelled = |version: &str, cluster: Option<&str>| {
            let mut service = service("a", version, 1);
            service.metadata.labels = cluster.map(|name| [(INSTANCE.to_owned(), name.to_owned())].into());
            service
        };
        let steps = [
            (Event::Apply(labelled("1", Some("tiny"))), vec!["tiny"], vec![("a".to_owned(), 1)]),
            (Event::Apply(labelled("2", None)), vec!["tiny"], vec![]),
            (Event::Apply(labelled("3", None)), vec![], vec![]),
            (Event::Apply(labelled("4", Some("tiny"))), vec!["tiny"], vec![("a".to_owned(), 1)]),
            (Event::Apply(labelled("5", Some("other"))), vec!["tiny", "other"], vec![]),
            (Event::Apply(labelled("4", Some("tiny"))), vec![], vec![]),
            (Event::Delete(labelled("6", None)), vec!["other"], vec![]),
        ];
        for (number, (event, news, held)) in steps.into_iter().enumerate() {
            let told: Vec<String> = shelf.take(event).into_iter().map(|cluster| cluster.name).collect();
            assert_eq!(told, news, "step {number}");
            assert_eq!(ports(&shelf), held, "step {number}");
        }
        assert!(shelf.clusters().is_empty());
    }

    #[test]
    fn an_object_has_the_version_that_was_seen_last() {
        let shelf = Shelf::<Service>::default();
        let version = || {
            let all = shelf.of(&ClusterRef::new("tiny").within("llm")).unwrap();
            all[0].resource_version()
        };
        shelf.take(Event::Apply(service("a", "5", 1)));
        assert_eq!(version().as_deref(), Some("5"));
        shelf.take(Event::Apply(service("a", "6", 1)));
        assert_eq!(version().as_deref(), Some("6"), "though nothing else is new");
        shelf.put(service("a", "9", 2));
        shelf.take(Event::Apply(service("a", "8", 3)));
        assert_eq!(version().as_deref(), Some("9"));
    }

    #[tokio::test]
    async fn it_is_filled_by_the_first_list() {
        let shelf = Shelf::<Service>::default();
        assert!(futures::FutureExt::now_or_never(shelf.filled()).is_none());
        shelf.take(Event::Init);
        shelf.take(Event::InitDone);
        shelf.filled().await;
    }
}
