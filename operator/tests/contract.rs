//! Pod templates tell the node's programs only what these understand: every flag and variable is in `shard_wire::contract`
//! for that program, once.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::collections::BTreeSet;

use common::{FIXTURES, children};
use k8s_openapi::api::core::v1::Container;
use shard_wire::contract::{Program, SETTINGS};

#[test]
fn templates_use_only_what_the_contract_has() {
    let mut used = BTreeSet::new();
    for fixture in FIXTURES {
        let children = children(fixture);
        let sets = std::iter::once(&children.bootstrap.stateful_set)
            .chain(children.shards.iter().map(|shard| &shard.stateful_set))
            .map(|set| &set.spec.as_ref().unwrap().template);
        let gateway = &children.gateway.deployment.spec.as_ref().unwrap().template;
        for template in sets.chain([gateway]) {
            let container = &template.spec.as_ref().unwrap().containers[0];
            check(container, &mut used);
        }
    }
    // Those that a cluster in Kubernetes cannot do without.
    for needed in [
        "server --model-source",
        "server --shards",
        "server --layers",
        "server --sha256",
        "server --token-file",
        "server --ca-file",
        "server --hf-endpoint",
        "server --identity-file",
        "shard_listener --bootstrap",
        "shard_listener --shard-id",
        "shard_listener --identity-file",
        "shard_listener --device",
        "web_server --operator-key-file",
        "web_server --api-keys-file",
        "web_server --bootstrap",
        "web_server --suspended",
        "web_server --port",
    ] {
        assert!(used.contains(needed), "no fixture has {needed}");
    }
}

fn check(container: &Container, used: &mut BTreeSet<String>) {
    let command = container.command.as_ref().unwrap();
    let program = Program::ALL.into_iter().find(|program| program.name() == command[0]);
    let Some(program @ (Program::Server | Program::ShardListener | Program::WebServer)) = program else {
        panic!("{command:?} is no program of a pod");
    };
    let mut once = BTreeSet::new();
    for arg in container.args.iter().flatten() {
        let arg = arg.strip_prefix("--").unwrap();
        // A switch has no value.
        let (flag, value) = arg.split_once('=').map_or((arg, None), |(flag, value)| (flag, Some(value)));
        let known = SETTINGS.iter().any(|it| it.flag == flag && it.programs.contains(&program));
        assert!(known, "{} does not know --{flag}", program.name());
        assert_eq!(value.is_none(), flag == "suspended", "--{flag} of {}", program.name());
        assert_ne!(value, Some(""), "--{flag} of {} has no value", program.name());
        assert!(once.insert(flag) || flag == "bootstrap", "--{flag} of {} twice", program.name());
        used.insert(format!("{} --{flag}", program.name()));
    }
    for variable in container.env.iter().flatten().filter(|variable| variable.name.starts_with("LLAMA_")) {
        let known = SETTINGS.iter().any(|setting| setting.env == variable.name);
        assert!(known, "no program knows {}", variable.name);
    }
}
