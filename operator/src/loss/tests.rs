use serde_json::{Value, json};

use super::*;
use crate::crd::ShardCluster;
use crate::settings::Settings;
use crate::validate::validate;
use crate::watch::kept;

/// Node `far` is silent since then.
const SINCE: i64 = 1_000;
const BOUND: i64 = 60;

/// Shard 1's pod is on node `far`, which is lost; node `near` is there. Claims are bound to volumes of the pods' nodes.
struct Scenery {
    spec: Value,
    pods: Vec<Value>,
    claims: Vec<Value>,
    nodes: Vec<NodeView>,
    volumes: Vec<Value>,
}

fn scenery() -> Scenery {
    Scenery {
        spec: json!({"model": {"name": "m", "source": {"builtin": {}}}, "shards": {"count": 2}}),
        pods: vec![pod("a-shard-0-0", Some("near")), pod("a-shard-1-0", Some("far"))],
        claims: vec![claim("model-a-shard-0-0", "v0"), claim("model-a-shard-1-0", "v1")],
        nodes: vec![node("near", None), node("far", Some(SINCE))],
        volumes: vec![volume("v0", "near.example"), volume("v1", "far.example")],
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn node(name: &str, since: Option<i64>) -> NodeView {
    let hostname = format!("{name}.example");
    NodeView { name: name.into(), hostname, unreachable_since: since.map(at), control_plane: false }
}

/// On a node, or, since a second before [`SINCE`], on none.
fn pod(name: &str, node: Option<&str>) -> Value {
    let scheduled = match node {
        Some(_) => json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": at(SINCE - 1)}),
        None => json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes",
            "lastTransitionTime": at(SINCE - 1),
        }),
    };
    json!({
        "metadata": {
            "name": name, "uid": format!("uid-{name}"), "creationTimestamp": at(SINCE - 2),
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "s", "uid": "s", "controller": true}],
        },
        "spec": {
            "nodeName": node, "containers": [],
            "volumes": [{"name": "model", "persistentVolumeClaim": {"claimName": format!("model-{name}")}}],
        },
        "status": {"conditions": [scheduled]},
    })
}

fn claim(name: &str, volume: &str) -> Value {
    json!({"metadata": {"name": name, "uid": format!("uid-{name}")}, "spec": {"volumeName": volume}})
}

fn volume(name: &str, hostname: &str) -> Value {
    let expression = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [hostname]});
    json!({
        "metadata": {"name": name},
        "spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}},
    })
}

impl Scenery {
    fn parts(&self) -> (Cluster, Observed) {
        let resource: ShardCluster = serde_json::from_value(json!({
            "apiVersion": "shardcluster.io/v1alpha1", "kind": "ShardCluster",
            "metadata": {"name": "a", "namespace": "n", "uid": "1"}, "spec": self.spec,
        }))
        .unwrap();
        let cluster = validate(&resource, &Settings::example()).unwrap();
        let observed = Observed {
            claims: serde_json::from_value(json!(self.claims)).unwrap(),
            pods: self.pods.iter().cloned().map(kept).collect(),
            nodes: self.nodes.clone().into(),
            volumes: serde_json::from_value(json!(self.volumes)).unwrap(),
            ..Observed::nothing_of(resource)
        };
        (cluster, observed)
    }

    fn loss_at(&self, second: i64) -> Loss {
        let (cluster, observed) = self.parts();
        loss(&cluster, &observed, at(second))
    }

    /// What goes, and the second in which something is due.
    fn goes_at(&self, second: i64) -> (Vec<String>, Option<i64>) {
        let Loss { evictions, next } = self.loss_at(second);
        let names = evictions.into_iter().flat_map(|one| {
            one.claims.into_iter().chain([one.pod]).map(|target| {
                assert_eq!(target.uid, format!("uid-{}", target.name));
                target.name
            })
        });
        (names.collect(), next.map(Timestamp::as_second))
    }

    fn words_at(&self, second: i64) -> String {
        let (cluster, observed) = self.parts();
        let causes = causes(&cluster, &observed, at(second));
        assert!(causes.values().all(|problem| problem.reason == Reason::NodeLost));
        causes
            .into_iter()
            .map(|(pod, problem)| format!("{pod} {}", problem.message))
            .collect::<Vec<_>>()
            .join("; ")
    }

    /// The pod has come back, and its volume is where it was.
    fn came_back(&mut self) {
        self.pods[1] = pod("a-shard-1-0", None);
    }
}

/// Late enough for all that is ever due.
const LATE: i64 = SINCE + 10 * BOUND;

#[test]
fn a_pod_goes_when_its_node_has_been_silent_for_the_bound() {
    let due = SINCE + BOUND;
    let table: [(&str, i64, &[&str], Option<i64>); 6] = [
        ("a clock that is behind", SINCE - 100, &[], Some(due)),
        ("at once", SINCE, &[], Some(due)),
        ("a second before", due - 1, &[], Some(due)),
        ("exactly then", due, &["a-shard-1-0"], None),
        ("later", due + 1, &["a-shard-1-0"], None),
        ("much later", LATE, &["a-shard-1-0"], None),
    ];
    for (case, now, gone, next) in table {
        let (names, again) = scenery().goes_at(now);
        assert_eq!(
            (&*names, again),
            (&*gone.iter().map(ToString::to_string).collect::<Vec<_>>(), next),
            "{case}"
        );
    }
    let early = scenery().loss_at(due - 1);
    assert_eq!(early.wait(at(due - 1)), Some(Duration::from_secs(1)));
    assert_eq!(Loss::default().wait(at(0)), None);
}

/// What is otherwise; what goes, much later; what is due after that.
type Case = (&'static str, fn(&mut Scenery), &'static [&'static str], Option<i64>);

#[test]
fn what_goes() {
    let cases: Vec<Case> = vec![
        ("a longer bound", |it| it.spec["nodeLossSeconds"] = 3600.into(), &[], Some(SINCE + 3600)),
        ("a node that is back", |it| it.nodes[1] = node("far", None), &[], None),
        (
            "one that was back meanwhile",
            |it| it.nodes[1] = node("far", Some(LATE - 1)),
            &[],
            Some(LATE - 1 + BOUND),
        ),
        ("a time out of all range", |it| it.nodes[1].unreachable_since = Some(Timestamp::MAX), &[], None),
        ("no such node any more", |it| drop(it.nodes.remove(1)), &["a-shard-1-0"], None),
        (
            "no such node yet: the pod has only just got it",
            |it| {
                it.nodes.remove(1);
                it.pods[1]["status"]["conditions"][0]["lastTransitionTime"] = json!(at(LATE - 1));
            },
            &[],
            Some(LATE - 1 + BOUND),
        ),
        (
            "no such node, of a pod that nobody has scheduled",
            |it| {
                it.nodes.remove(1);
                it.pods[1]["status"] = json!({});
                it.pods[1]["metadata"]["creationTimestamp"] = json!(at(LATE - 2));
            },
            &[],
            Some(LATE - 2 + BOUND),
        ),
        (
            "several pods of a node, each with a claim that stays for now",
            |it| it.pods[0]["spec"]["nodeName"] = "far".into(),
            &["a-shard-0-0", "a-shard-1-0"],
            None,
        ),
        (
            "a pod that hangs on its way out",
            |it| {
                it.pods[1]["metadata"]["deletionTimestamp"] = json!(at(SINCE));
                it.pods[1]["metadata"]["deletionGracePeriodSeconds"] = 60.into();
            },
            &["a-shard-1-0"],
            None,
        ),
        (
            "one that waits for a finalizer only",
            |it| {
                it.pods[1]["metadata"]["deletionTimestamp"] = json!(at(SINCE));
                it.pods[1]["metadata"]["deletionGracePeriodSeconds"] = 0.into();
            },
            &[],
            None,
        ),
        ("a pod of nobody", |it| it.pods[1]["metadata"]["ownerReferences"] = json!([]), &[], None),
        (
            "a gateway",
            |it| it.pods[1]["metadata"]["ownerReferences"][0]["kind"] = "ReplicaSet".into(),
            &["a-shard-1-0"],
            None,
        ),
        ("suspended", |it| it.spec["suspend"] = true.into(), &["a-shard-1-0"], None),
        ("all nodes lost", |it| it.nodes[0] = node("near", Some(SINCE)), &[], None),
        ("nodes are not known", |it| it.nodes.clear(), &[], None),
        (
            "its volume is kept",
            |it| it.spec["storage"] = json!({"retainOnNodeLoss": true}),
            &["a-shard-1-0"],
            None,
        ),
    ];
    check(cases);
}

#[test]
fn a_claim_goes_when_its_pod_has_come_back_and_only_a_lost_node_has_its_volume() {
    let both: &[&str] = &["model-a-shard-1-0", "a-shard-1-0"];
    let cases: Vec<Case> = vec![
        ("a volume of a lost node", |_| {}, both, None),
        ("no such node any more", |it| drop(it.nodes.remove(1)), both, None),
        (
            "no such node, but not for long",
            |it| {
                it.nodes.remove(1);
                it.pods[1]["status"]["conditions"][0]["lastTransitionTime"] = json!(at(LATE - 1));
            },
            &[],
            Some(LATE - 1 + BOUND),
        ),
        ("not for long", |it| it.nodes[1] = node("far", Some(LATE - 1)), &[], Some(LATE - 1 + BOUND)),
        ("the node is back", |it| it.nodes[1] = node("far", None), &[], None),
        ("a volume of another node", |it| it.volumes[1] = volume("v1", "near.example"), &[], None),
        ("a volume of the network", |it| it.volumes[1]["spec"] = json!({}), &[], None),
        ("a volume that nobody may read", |it| drop(it.volumes.remove(1)), &[], None),
        ("a claim that is not bound", |it| it.claims[1]["spec"] = json!({}), &[], None),
        (
            "a claim of another pod",
            |it| it.claims[1]["metadata"]["name"] = "model-a-shard-1-1".into(),
            &[],
            None,
        ),
        (
            "a user's claim",
            |it| {
                it.claims[1]["metadata"]["name"] = "mine".into();
                it.pods[1]["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] = "mine".into();
            },
            &[],
            None,
        ),
        (
            "no claim at all",
            |it| it.pods[1]["spec"]["volumes"] = json!([{"name": "model", "emptyDir": {}}]),
            &[],
            None,
        ),
        ("it is to be kept", |it| it.spec["storage"] = json!({"retainOnNodeLoss": true}), &[], None),
        ("it is suspended", |it| it.spec["suspend"] = true.into(), &[], None),
        ("most nodes are lost", |it| it.nodes[0] = node("near", Some(SINCE)), &[], None),
        ("the scheduler has not looked yet", |it| it.pods[1]["status"] = json!({}), &[], None),
    ];
    check(cases.into_iter().map(|(case, change, gone, next)| {
        (
            case,
            move |it: &mut Scenery| {
                it.came_back();
                change(it);
            },
            gone,
            next,
        )
    }));
}

fn check<F: FnOnce(&mut Scenery)>(
    cases: impl IntoIterator<Item = (&'static str, F, &'static [&'static str], Option<i64>)>,
) {
    for (case, change, gone, next) in cases {
        let mut it = scenery();
        change(&mut it);
        let (names, again) = it.goes_at(LATE);
        assert_eq!((names, again), (gone.iter().map(ToString::to_string).collect(), next), "{case}");
    }
}

#[test]
fn an_eviction_says_what_it_is_about() {
    let standing = Standing::Unreachable { since: at(SINCE) };
    assert_eq!(scenery().loss_at(LATE).evictions[0].standing, standing);
    let mut it = scenery();
    it.came_back();
    let by_volume = &it.loss_at(LATE).evictions[0];
    assert_eq!(
        (&*by_volume.node, by_volume.standing),
        ("far", standing),
        "by the name that can be asked for"
    );
    it.nodes.remove(1);
    let gone = &it.loss_at(LATE).evictions[0];
    assert_eq!((&*gone.node, gone.standing), ("far.example", Standing::Gone));
}

/// What is otherwise, and what users are told.
type Told = (fn(&mut Scenery), &'static str);

#[test]
fn users_are_told_which_node_it_is_and_what_follows() {
    let table: Vec<Told> = vec![
        (|_| {}, "a-shard-1-0 is on node far, which cannot be reached; after 60 s it is replaced"),
        (|it| drop(it.nodes.remove(1)), "a-shard-1-0 is on node far, which is gone; it is replaced"),
        (
            |it| it.nodes[0] = node("near", Some(SINCE)),
            "a-shard-0-0 is on node near, which cannot be reached; nothing is replaced, because most nodes are like it: it may be the control plane that is cut off; \
             a-shard-1-0 is on node far, which cannot be reached; nothing is replaced, because most nodes are like it: it may be the control plane that is cut off",
        ),
        (
            Scenery::came_back,
            "a-shard-1-0 waits for its volume on node far, which cannot be reached; after 60 s it gets a new one",
        ),
        (
            |it| {
                it.came_back();
                it.spec["storage"] = json!({"retainOnNodeLoss": true});
            },
            "a-shard-1-0 waits for its volume on node far, which cannot be reached: storage.retainOnNodeLoss keeps the volume",
        ),
        (|it| it.nodes[1] = node("far", None), ""),
        (|it| it.nodes.clear(), ""),
    ];
    for (change, words) in table {
        let mut it = scenery();
        change(&mut it);
        assert_eq!(it.words_at(LATE), words);
    }
    let early = "a-shard-1-0 is on node far, which cannot be reached; after 60 s it is replaced";
    assert_eq!(scenery().words_at(SINCE), early, "the same words, from the first moment on");
    let mut new = scenery();
    new.nodes.remove(1);
    assert_eq!(new.words_at(SINCE), "", "the node may be too new to be known");
}

#[test]
fn volumes_are_read_only_where_they_may_be_the_reason() {
    let read = |change: fn(&mut Scenery)| {
        let mut it = scenery();
        change(&mut it);
        let (_, observed) = it.parts();
        volumes_to_read(&observed.pods, &observed.claims, &observed.nodes)
    };
    assert_eq!(read(|_| {}), Vec::<String>::new(), "all pods have nodes");
    assert_eq!(read(Scenery::came_back), ["v1"]);
    let selected = |it: &mut Scenery, node: &str| {
        it.came_back();
        it.claims[1]["metadata"]["annotations"] = json!({"volume.kubernetes.io/selected-node": node});
    };
    assert_eq!(read(|it| it.claims[1]["spec"] = json!({})), Vec::<String>::new());
    let mut it = scenery();
    selected(&mut it, "far");
    let (_, far) = it.parts();
    assert_eq!(volumes_to_read(&far.pods, &far.claims, &far.nodes), ["v1"]);
    selected(&mut it, "near");
    let (_, near) = it.parts();
    assert_eq!(volumes_to_read(&near.pods, &near.claims, &near.nodes), Vec::<String>::new());
}
