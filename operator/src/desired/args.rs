//! Arguments of the node's programs: flags are those of `shard_wire::contract`, by name, so that they cannot differ.

use std::fmt::Display;

use shard_wire::contract as c;
use shard_wire::contract::Setting;

use super::meta::entries;
use super::secrets::{CLUSTER_SECRET_FILE, IDENTITY_FILE};
use crate::cluster::Cluster;

/// Flags in the order in which they were set.
#[derive(Default)]
pub(super) struct Args(Vec<String>);

impl Args {
    /// What every member of a cluster is told. Logs are for machines: nobody watches a pod's console.
    pub(super) fn member(cluster: &Cluster) -> Self {
        Self::default()
            .with(&c::CLUSTER, &cluster.cluster_name)
            .with(&c::CLUSTER_SECRET_FILE, CLUSTER_SECRET_FILE)
            .with(&c::TRANSPORT, cluster.transport.word())
            .with(&c::LOG_FORMAT, "json")
    }

    /// By which entries, too.
    pub(super) fn dialling(cluster: &Cluster) -> Self {
        entries(cluster).iter().fold(Self::member(cluster), |args, entry| args.with(&c::BOOTSTRAP, entry))
    }

    /// Who it is, where its pod has a name that stays.
    pub(super) fn identified(self) -> Self {
        self.with(&c::IDENTITY_FILE, IDENTITY_FILE)
    }

    /// As it is: a kubelet takes `$(NAME)` for a variable and `$$` for one `$`.
    pub(super) fn with(mut self, setting: &Setting, value: impl Display) -> Self {
        self.0.push(format!("--{}={}", setting.flag, value.to_string().replace('$', "$$")));
        self
    }

    /// Nothing, where nothing is said.
    pub(super) fn with_some(self, setting: &Setting, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.with(setting, value),
            None => self,
        }
    }

    /// A flag without a value, where it is on.
    pub(super) fn switch(mut self, setting: &Setting, on: bool) -> Self {
        if on {
            self.0.push(format!("--{}", setting.flag));
        }
        self
    }

    pub(super) fn into_vec(self) -> Vec<String> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_arrives_as_it_was_written() {
        let args = Args::default().with(&c::MODEL_SOURCE, "https://host/$(A)/$$b/$c.gguf").into_vec();
        assert_eq!(args, ["--model-source=https://host/$$(A)/$$$$b/$$c.gguf"]);
    }
}
