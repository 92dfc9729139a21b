//! Helm and kubectl, and what the chart is made into.

#![allow(dead_code, reason = "not every test uses all of it")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;
use shard_e2e::ControlPlane;
use shard_e2e::binaries::{Binaries, BinariesError, may_skip};

/// A path of this repository.
pub(crate) fn tree(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

pub(crate) fn chart() -> String {
    tree("charts/shardcluster-operator").display().to_string()
}

/// Where Helm is; `None` where it may be missing.
pub(crate) async fn helm() -> Option<PathBuf> {
    match Binaries::get(&["helm"]).await {
        Err(BinariesError::Missing { .. }) if may_skip() => None,
        binaries => Some(binaries.unwrap().path("helm")),
    }
}

/// What a program prints; what it says on standard error where it fails.
pub(crate) fn run<A: AsRef<OsStr>>(
    program: &Path,
    args: &[A],
    kubeconfig: Option<&Path>,
) -> Result<String, String> {
    let mut command = Command::new(program);
    // Without one, nothing outside this test is reached.
    command.args(args).env("KUBECONFIG", kubeconfig.unwrap_or(Path::new("/dev/null")));
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// As the admin of a control plane.
pub(crate) fn kubectl(plane: &ControlPlane, args: &[&str]) -> Result<String, String> {
    run(&plane.program("kubectl"), args, Some(&plane.kubeconfig()))
}

/// The objects of a release named `op` in namespace `system`.
pub(crate) fn template(helm: &Path, values: &[&str]) -> Result<Vec<Value>, String> {
    let chart = chart();
    let mut args = vec!["template", "op", &chart, "--namespace=system", "--kube-version=1.34.4"];
    args.extend(values.iter().flat_map(|value| ["--set", value]));
    Ok(objects(&run(helm, &args, None)?))
}

/// Those of a stream of YAML documents.
pub(crate) fn objects(documents: &str) -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(documents);
    let objects = documents.map(|one| Value::deserialize(one).unwrap());
    objects.filter(|object: &Value| !object.is_null()).collect()
}

/// What Helm says to it.
pub(crate) fn install(
    helm: &Path,
    plane: &ControlPlane,
    release: &str,
    system: &str,
    values: &[&str],
) -> String {
    let (chart, namespace) = (chart(), format!("--namespace={system}"));
    let mut args = vec!["install", release, &chart, &namespace];
    args.extend(values.iter().flat_map(|value| ["--set", value]));
    run(helm, &args, Some(&plane.kubeconfig())).unwrap()
}

pub(crate) fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

pub(crate) fn one<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let found = of_kind(objects, kind);
    assert_eq!(found.len(), 1, "{kind}");
    found[0]
}

/// Of the operator's container.
pub(crate) fn args_of(objects: &[Value]) -> Vec<&str> {
    let container = &one(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    container["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect()
}
