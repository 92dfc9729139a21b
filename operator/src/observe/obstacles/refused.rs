//! Why pods are not created: an API server that refuses them tells a controller, and controllers tell it in their own ways.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::readable;
use crate::observe::ObserveError;

/// What a controller of StatefulSets says when a pod, or its claim, is refused; the condition of a Deployment says it, too.
const FAILED_CREATE: &str = "FailedCreate";
/// Events of one answer; those of one ShardCluster are as many as its shards, and there may be others in the namespace.
const MAX_EVENTS: u32 = 1000;
/// A controller tries again after 1000 seconds at most: what is older than that, and some more, has been overcome.
const OLDEST: SignedDuration = SignedDuration::from_mins(20);

/// StatefulSets whose controller has seen what they should be, and has made fewer pods.
pub(super) fn lacking<'a>(sets: &'a [StatefulSet], pods: &[Pod]) -> Vec<&'a StatefulSet> {
    let mut made: HashMap<&str, usize> = HashMap::new();
    for name in pods.iter().filter_map(|pod| pod.metadata.name.as_deref()) {
        if let Some((set, ordinal)) = name.rsplit_once('-')
            && ordinal.parse::<u32>().is_ok()
        {
            *made.entry(set).or_default() += 1;
        }
    }
    let lacks = |set: &&StatefulSet| {
        let (Some(spec), Some(status)) = (&set.spec, &set.status) else { return false };
        let seen =
            status.observed_generation.is_some() && status.observed_generation == set.metadata.generation;
        let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
        let name = set.metadata.name.as_deref().unwrap_or_default();
        seen && made.get(name).copied().unwrap_or(0) < wanted
    };
    sets.iter().filter(lacks).collect()
}

/// One question for all of them; none where all have their pods.
pub(super) async fn of_stateful_sets(
    client: &Client,
    namespace: &str,
    lacking: &[&StatefulSet],
) -> Result<BTreeMap<String, String>, ObserveError> {
    if lacking.is_empty() {
        return Ok(BTreeMap::new());
    }
    let fields = format!("regarding.kind=StatefulSet,reason={FAILED_CREATE}");
    let params = ListParams::default().fields(&fields).limit(MAX_EVENTS);
    let answer = Api::<Event>::namespaced(client.clone(), namespace).list(&params).await;
    let events = readable::<Event, _>(answer).map_err(|source| ObserveError::List {
        kind: "Event".into(),
        namespace: namespace.to_owned(),
        source,
    })?;
    Ok(events.map(|events| told(&events.items, lacking, Timestamp::now())).unwrap_or_default())
}

/// The last word about each.
fn told(events: &[Event], lacking: &[&StatefulSet], now: Timestamp) -> BTreeMap<String, String> {
    let of = |set: &&StatefulSet| {
        let its = |event: &&Event| event.regarding.as_ref().is_some_and(|it| it.uid == set.metadata.uid);
        let lately = events.iter().filter(its).filter(|event| now.duration_since(last_seen(event)) <= OLDEST);
        let words = lately.filter_map(|event| Some((last_seen(event), Reverse(event.note.as_deref()?))));
        let (_, Reverse(last)) = words.max()?;
        Some((set.name_any(), why(last).to_owned()))
    };
    lacking.iter().filter_map(of).collect()
}

/// An Event that is repeated says so in one of several places.
fn last_seen(event: &Event) -> Timestamp {
    let series = event.series.as_ref().map(|series| series.last_observed_time.0);
    let last = event.deprecated_last_timestamp.as_ref().map(|time| time.0);
    let first = event.event_time.as_ref().map(|time| time.0);
    let made = event.metadata.creation_timestamp.as_ref().map(|time| time.0);
    [series, last, first, made].into_iter().flatten().max().unwrap_or(Timestamp::MIN)
}

pub(super) fn of_deployments(deployments: &[Deployment]) -> impl Iterator<Item = (String, String)> {
    deployments.iter().filter_map(|deployment| {
        let mut conditions = deployment.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let failure = conditions.find(|one| {
            (&*one.type_, &*one.status, one.reason.as_deref())
                == ("ReplicaFailure", "True", Some(FAILED_CREATE))
        })?;
        Some((deployment.name_any(), why(failure.message.as_deref()?).to_owned()))
    })
}

/// What is the same of every pod: not its name, which may be another one at every attempt.
fn why(words: &str) -> &str {
    let cause = words.split_once("failed error: ").map_or(words, |(_, cause)| cause);
    cause.split_once("\" is forbidden: ").map_or(cause, |(_, cause)| cause)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn set(name: &str, replicas: i32, generation: i64, seen: Option<i64>) -> StatefulSet {
        serde_json::from_value(json!({
            "metadata": {"name": name, "uid": format!("uid-{name}"), "generation": generation},
            "spec": {"replicas": replicas, "selector": {}, "template": {}, "serviceName": "s"},
            "status": {"replicas": 0, "observedGeneration": seen},
        }))
        .unwrap()
    }

    #[test]
    fn a_set_lacks_pods_once_its_controller_has_had_its_turn() {
        let pods = ["a-shard-1-0", "a-shard-10-0", "a-shard-1-x", "other"];
        let pods: Vec<Pod> = pods
            .map(|name| serde_json::from_value(json!({"metadata": {"name": name}})).unwrap())
            .into_iter()
            .collect();
        let table = [
            (set("a-shard-1", 1, 1, Some(1)), false, "it has its pod"),
            (set("a-shard-1", 2, 1, Some(1)), true, "it has one of two"),
            (set("a-shard-2", 1, 1, Some(1)), true, "it has none"),
            (set("a-shard-2", 0, 1, Some(1)), false, "it should have none"),
            (set("a-shard-2", 1, 2, Some(1)), false, "its controller has not seen what it should be"),
            (set("a-shard-2", 1, 1, None), false, "nor that it is there"),
        ];
        for (set, expected, case) in table {
            assert_eq!(!lacking(&[set], &pods).is_empty(), expected, "{case}");
        }
    }

    fn event(uid: &str, note: &str, times: &Value) -> Event {
        let mut event = json!({"metadata": {}, "eventTime": null, "regarding": {"uid": uid}, "note": note});
        event.as_object_mut().unwrap().extend(times.as_object().unwrap().clone());
        serde_json::from_value(event).unwrap()
    }

    #[test]
    fn the_last_word_about_a_set_counts_and_none_that_is_old_or_about_another_one() {
        let quota = |pod: &str| {
            format!(
                "create Pod {pod} in StatefulSet a failed error: pods \"{pod}\" is forbidden: exceeded quota: q"
            )
        };
        let at = |minute: u32| json!({"deprecatedLastTimestamp": format!("2026-01-01T10:{minute:02}:00Z")});
        let events = [
            event("uid-a", &quota("a-0"), &at(30)),
            event("uid-a", "create Pod a-0 in StatefulSet a failed error: something older", &at(29)),
            event("uid-b", "create Pod b-0 in StatefulSet b failed error: overcome", &at(5)),
            event("uid-a-before", "of one that had the same name", &at(31)),
            event(
                "uid-c",
                "create Claim x for Pod c-0 in StatefulSet c failed error: timeout",
                &json!({"eventTime": "2026-01-01T09:00:00.000000Z", "series": {"count": 9, "lastObservedTime": "2026-01-01T10:28:00.000000Z"}}),
            ),
        ];
        let sets = ["a", "b", "c", "d"].map(|name| set(name, 1, 1, Some(1)));
        let now: Timestamp = "2026-01-01T10:31:00Z".parse().unwrap();
        let found = told(&events, &sets.each_ref(), now);
        let expected = [("a", "exceeded quota: q"), ("c", "timeout")];
        assert_eq!(found, expected.map(|(name, why)| (name.to_owned(), why.to_owned())).into());
    }

    #[test]
    fn words_are_the_same_for_all_pods() {
        let table = [
            (
                "pods \"g-5c8-x2x1\" is forbidden: error looking up service account llm/nope: serviceaccount \"nope\" not found",
                "error looking up service account llm/nope: serviceaccount \"nope\" not found",
            ),
            (
                "(combined from similar events): create Pod a-3 in StatefulSet a failed error: failed to create PVC m-a-3: persistentvolumeclaims \"m-a-3\" is forbidden: exceeded quota: q, requested: persistentvolumeclaims=1",
                "exceeded quota: q, requested: persistentvolumeclaims=1",
            ),
            (
                "Internal error occurred: failed calling webhook",
                "Internal error occurred: failed calling webhook",
            ),
        ];
        for (words, expected) in table {
            assert_eq!(why(words), expected);
        }
    }

    #[test]
    fn a_deployment_says_it_itself() {
        let deployment = |condition: Value| -> Deployment {
            serde_json::from_value(json!({
                "metadata": {"name": "g"}, "status": {"conditions": [condition]},
            }))
            .unwrap()
        };
        let condition = |kind: &str, reason: &str| json!({"type": kind, "status": "True", "reason": reason, "message": "pods \"g-x\" is forbidden: no"});
        let table = [
            (condition("ReplicaFailure", "FailedCreate"), Some("no")),
            (condition("ReplicaFailure", "FailedDelete"), None),
            (condition("Progressing", "FailedCreate"), None),
        ];
        for (condition, expected) in table {
            let found = of_deployments(&[deployment(condition)]).map(|(_, why)| why).next();
            assert_eq!(found.as_deref(), expected);
        }
    }
}
