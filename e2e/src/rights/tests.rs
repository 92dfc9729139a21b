use serde_json::json;

use super::*;

const ROLE: &str = "Role";
const CLUSTER_ROLE: &str = "ClusterRole";

fn role(kind: &str, namespace: Option<&str>, rules: &Value) -> Value {
    json!({"kind": kind, "metadata": {"name": "r", "namespace": namespace}, "rules": rules})
}

fn binding(kind: &str, namespace: Option<&str>, role: &str, account: &str) -> Value {
    json!({
        "kind": kind, "metadata": {"name": "b", "namespace": namespace}, "roleRef": {"kind": role, "name": "r"},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": "system"}],
    })
}

fn given(objects: &[Value]) -> Vec<String> {
    granted(objects, "system", "op").unwrap().iter().map(ToString::to_string).collect()
}

#[test]
fn rights_are_those_of_bound_roles_where_they_are_bound() {
    let pods = json!([{"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get"]}]);
    let sets = json!([{"apiGroups": ["apps"], "resources": ["statefulsets"], "verbs": ["get", "list"]}]);
    let lease = json!([{"apiGroups": ["x.io"], "resources": ["leases"], "resourceNames": ["a", "b"], "verbs": ["get"]}]);
    let (everywhere, here) = ("ClusterRoleBinding", "RoleBinding");
    let table: [(Vec<Value>, &[&str]); 6] = [
        (vec![role(CLUSTER_ROLE, None, &pods)], &[]),
        (
            vec![role(CLUSTER_ROLE, None, &pods), binding(everywhere, None, CLUSTER_ROLE, "op")],
            &["get pods", "get pods/log"],
        ),
        (vec![role(CLUSTER_ROLE, None, &pods), binding(everywhere, None, CLUSTER_ROLE, "other")], &[]),
        (
            vec![role(ROLE, Some("n"), &sets), binding(here, Some("n"), ROLE, "op")],
            &["get apps/statefulsets in n", "list apps/statefulsets in n"],
        ),
        (
            vec![role(CLUSTER_ROLE, None, &sets), binding(here, Some("n"), CLUSTER_ROLE, "op")],
            &["get apps/statefulsets in n", "list apps/statefulsets in n"],
        ),
        (
            vec![role(ROLE, Some("n"), &lease), binding(here, Some("n"), ROLE, "op")],
            &["get x.io/leases a in n", "get x.io/leases b in n"],
        ),
    ];
    for (objects, expected) in table {
        assert_eq!(given(&objects), expected, "{objects:?}");
    }
    let elsewhere = [role(ROLE, Some("m"), &sets), binding(here, Some("n"), ROLE, "op")];
    assert_eq!(
        granted(&elsewhere, "system", "op").unwrap_err().to_string(),
        "b binds Role r, which is not there"
    );
}

fn right(line: &str, namespace: Option<&str>, name: Option<&str>) -> Right {
    let (verb, resource) = line.split_once(' ').unwrap();
    let own = |text: Option<&str>| text.map(str::to_owned);
    Right { verb: verb.into(), resource: resource.into(), namespace: own(namespace), name: own(name) }
}

fn request(line: &str, namespace: Option<&str>, name: Option<&str>, code: u16) -> Request {
    let Right { verb, resource, namespace, name } = right(line, namespace, name);
    Request { verb, resource, namespace, name, code, ..Request::default() }
}

#[test]
fn a_right_is_needed_where_a_request_is_within_it() {
    let everywhere = right("get pods", None, None);
    let here = right("get pods", Some("n"), None);
    let one = right("get pods", Some("n"), Some("a"));
    let make = right("create pods", Some("n"), None);
    let table = [
        (&everywhere, request("get pods", Some("n"), Some("a"), 404), true),
        (&everywhere, request("list pods", None, None, 200), false),
        (&everywhere, request("get pods/log", Some("n"), Some("a"), 200), false),
        (&everywhere, request("get x.io/pods", Some("n"), Some("a"), 200), false),
        (&here, request("get pods", Some("n"), Some("a"), 200), true),
        (&here, request("get pods", Some("m"), Some("a"), 200), false),
        (&here, request("get pods", None, None, 200), false),
        (&one, request("get pods", Some("n"), Some("a"), 200), true),
        (&one, request("get pods", Some("n"), Some("b"), 200), false),
        (&make, request("create pods", Some("n"), None, 201), true),
        (&make, request("patch pods", Some("n"), Some("a"), 201), true),
        (&make, request("patch pods", Some("n"), Some("a"), 200), false),
        (&make, request("update pods", Some("n"), Some("a"), 201), false),
    ];
    for (right, request, needed) in table {
        assert_eq!(right.is_for(&request), needed, "{right} for {request}");
    }
}

#[test]
fn every_difference_is_found_and_nothing_else() {
    let untried = [Untried { resource: "nodes", verbs: &["get", "list"], why: "no node is lost" }];
    let rights =
        |lines: &[&str]| -> BTreeSet<Right> { lines.iter().map(|line| right(line, None, None)).collect() };
    let get = |code| request("get pods", Some("n"), Some("a"), code);
    let nodes = || request("get nodes", None, Some("a"), 200);
    let table: [(&[&str], Vec<Request>, &[&str]); 6] = [
        (&["get pods", "get nodes", "list nodes"], vec![get(200)], &[]),
        (
            &["get pods", "get nodes", "list nodes"],
            vec![get(200), get(403)],
            &["refused: get pods a in n: 403 "],
        ),
        (&["get pods", "get nodes", "list nodes"], vec![], &["granted, and nothing asks for it: get pods"]),
        (
            &["get pods", "watch nodes", "get nodes", "list nodes"],
            vec![get(200)],
            &["granted, and nothing asks for it: watch nodes"],
        ),
        (
            &["get pods", "get nodes", "list nodes"],
            vec![get(200), nodes()],
            &["said to be untried, and tried: get nodes"],
        ),
        (&["get pods", "get nodes"], vec![get(200)], &["said to be untried, and not granted: list nodes"]),
    ];
    for (granted, requests, expected) in table {
        let found: Vec<_> =
            compare(&rights(granted), &requests, &untried).iter().map(ToString::to_string).collect();
        assert_eq!(found, expected, "{granted:?} {requests:?}");
    }
}
