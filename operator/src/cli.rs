//! The command line.

use std::io::{self, Write};

use clap::{Args, Parser, Subcommand};
use thiserror::Error;

use crate::crd::{self, DefinitionError};
use crate::run::{LogFormat, OperatorError, operate};
use crate::settings::Settings;

/// Turns ShardClusters into the pods that serve them.
#[derive(Clone, Debug, Parser)]
#[command(name = "operator", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Print the definition of ShardCluster: operator crd | kubectl apply --server-side -f -
    Crd,
    /// Reconcile ShardClusters until told to stop. The API server is that of KUBECONFIG, or that of the pod
    Run(RunArgs),
}

#[derive(Clone, Debug, Args)]
struct RunArgs {
    /// Namespace in which the operator runs; its pods may reach gateways
    #[arg(long, env = "OPERATOR_NAMESPACE", default_value = "default")]
    namespace: String,
    /// Namespace whose ShardClusters are reconciled [default: all]
    #[arg(long, env = "OPERATOR_WATCH_NAMESPACE")]
    watch_namespace: Option<String>,
    /// Image of nodes, for ShardClusters that have none of their own
    #[arg(
        long,
        env = "OPERATOR_NODE_IMAGE",
        default_value = concat!("shardcluster/node:", env!("CARGO_PKG_VERSION"))
    )]
    node_image: String,
    /// What the tag of the node image's CUDA variant has more
    #[arg(long, env = "OPERATOR_CUDA_SUFFIX", default_value = "-cuda", allow_hyphen_values = true)]
    cuda_suffix: String,
    /// Let ShardClusters without an image of their own follow the node image, instead of keeping the one in use
    #[arg(long, env = "OPERATOR_AUTO_UPGRADE")]
    auto_upgrade: bool,
    /// Namespaces whose pods may read the nodes' metrics
    #[arg(long = "monitoring-namespace", env = "OPERATOR_MONITORING_NAMESPACES", value_delimiter = ',')]
    monitoring_namespaces: Vec<String>,
    /// ShardClusters that are reconciled at the same time
    #[arg(long, env = "OPERATOR_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: u16,
    /// How log lines look
    #[arg(long, env = "OPERATOR_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// Why the program ends before it is told to.
#[derive(Debug, Error)]
pub enum CliError {
    /// There is no definition.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// Nobody reads it.
    #[error("cannot write to standard output")]
    Write(#[source] io::Error),
    /// See [`OperatorError`].
    #[error(transparent)]
    Run(#[from] OperatorError),
}

impl Cli {
    /// Does what was asked for.
    ///
    /// # Errors
    /// See [`CliError`].
    pub fn run(self) -> Result<(), CliError> {
        match self.command {
            Command::Crd => io::stdout().write_all(crd::yaml()?.as_bytes()).map_err(CliError::Write),
            Command::Run(args) => Ok(operate(args.settings(), args.log_format)?),
        }
    }
}

impl RunArgs {
    fn settings(&self) -> Settings {
        // Charts set a variable to nothing where nothing is meant.
        let some = |text: &String| (!text.is_empty()).then(|| text.clone());
        Settings {
            node_image: self.node_image.clone(),
            cuda_suffix: self.cuda_suffix.clone(),
            auto_upgrade: self.auto_upgrade,
            namespace: self.namespace.clone(),
            monitoring_namespaces: self.monitoring_namespaces.iter().filter_map(some).collect(),
            watch_namespace: self.watch_namespace.as_ref().and_then(some),
            concurrency: self.concurrency,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(flags: &[&str]) -> Settings {
        let words = ["operator", "run"].iter().chain(flags);
        match Cli::try_parse_from(words).unwrap().command {
            Command::Run(args) => args.settings(),
            Command::Crd => panic!("no run"),
        }
    }

    #[test]
    fn flags_are_settings() {
        let defaults = settings(&[]);
        assert_eq!(defaults.watch_namespace, None);
        assert!(defaults.node_image.ends_with(env!("CARGO_PKG_VERSION")));
        let given = settings(&[
            "--cuda-suffix",
            "-gpu",
            "--watch-namespace=llm",
            "--monitoring-namespace=a,b",
            "--monitoring-namespace=",
            "--concurrency=3",
        ]);
        assert_eq!(given.cuda_suffix, "-gpu");
        assert_eq!(given.watch_namespace.as_deref(), Some("llm"));
        assert_eq!(given.monitoring_namespaces, ["a", "b"]);
        assert_eq!(given.concurrency, 3);
        assert!(Cli::try_parse_from(["operator", "run", "--concurrency=0"]).is_err());
    }
}
