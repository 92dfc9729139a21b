//! The command line.

use std::io::{self, Write};
use std::net::SocketAddr;

use clap::{Args, Parser, Subcommand};
use thiserror::Error;

use crate::crd::{self, DefinitionError};
use crate::run::{OperatorError, Process, operate};
use crate::settings::Settings;
use crate::telemetry::logs::LogFormat;

const NAMESPACE: &str = "default";
const NODE_IMAGE: &str = concat!("shardcluster/node:", env!("CARGO_PKG_VERSION"));
/// Bytes of a namespace's name.
const MAX_NAMESPACE: usize = 63;
const RUN: &str = "\
Reconciles ShardClusters until told to stop by SIGTERM or SIGINT; what is under way then is finished.

The API server is that of KUBECONFIG or ~/.kube/config, else that of the pod in which this runs.
Gateways are asked at the addresses of their pods: outside the cluster this machine needs a route to them.
The definition of ShardCluster has to be there: operator crd | kubectl apply --server-side -f -

Of all operators with the same --namespace one leads: it holds the Lease shardcluster-operator there.
The others wait, and take over at once when it is told to stop, and in about 12 seconds when it is lost.";
const RUN_MORE: &str = "\
On --listen:
  /healthz  200 while no loop of the operator is stuck
  /readyz   200 when the API server answers and, where this operator leads, all watches are in sync
  /metrics  for Prometheus: reconciles, errors by class, durations, queue, ShardClusters by phase, writes, who leads

Logs go to standard error. RUST_LOG says which, as RUST_LOG=info,shard_operator=debug. All lines of one reconcile have
its trace_id: operator run 2>&1 | grep trace_id=...

Examples:
  operator run                                       all namespaces; the Lease is in `default`
  operator run --watch-namespace llm --namespace llm in one namespace, with rights there alone
  operator run --listen 127.0.0.1:0 --log-format json  another one on this machine: any free port, which it logs";

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
    #[command(long_about = RUN, after_long_help = RUN_MORE)]
    Run(RunArgs),
}

#[derive(Clone, Debug, Args)]
struct RunArgs {
    /// Namespace in which the operator runs; its Lease is there, and its pods may reach gateways
    #[arg(long, env = "OPERATOR_NAMESPACE", default_value = NAMESPACE, value_parser = namespace)]
    namespace: String,
    /// Namespace whose ShardClusters are reconciled [default: all]
    #[arg(long, env = "OPERATOR_WATCH_NAMESPACE", value_parser = namespace)]
    watch_namespace: Option<String>,
    /// Image of nodes, for ShardClusters that have none of their own
    #[arg(
        long,
        env = "OPERATOR_NODE_IMAGE",
        default_value = NODE_IMAGE
    )]
    node_image: String,
    /// What the tag of the node image's CUDA variant has more
    #[arg(long, env = "OPERATOR_CUDA_SUFFIX", default_value = "-cuda", allow_hyphen_values = true)]
    cuda_suffix: String,
    /// Let ShardClusters without an image of their own follow the node image, instead of keeping the one in use
    #[arg(long, env = "OPERATOR_AUTO_UPGRADE")]
    auto_upgrade: bool,
    /// Namespaces whose pods may read the nodes' metrics
    #[arg(
        long = "monitoring-namespace",
        env = "OPERATOR_MONITORING_NAMESPACES",
        value_delimiter = ',',
        value_parser = namespace
    )]
    monitoring_namespaces: Vec<String>,
    /// ShardClusters that are reconciled at the same time
    #[arg(long, env = "OPERATOR_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: u16,
    /// Address of health and metrics, as 0.0.0.0:8080 or [::]:8080
    #[arg(long, env = "OPERATOR_LISTEN", default_value = "0.0.0.0:8080", value_parser = address)]
    listen: SocketAddr,
    /// Name by which the Lease tells who leads; random digits follow it [default: the host's]
    #[arg(long, env = "POD_NAME")]
    pod_name: Option<String>,
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
            Command::Run(args) => Ok(operate(args.settings(), args.process())?),
        }
    }
}

impl RunArgs {
    fn process(&self) -> Process {
        Process {
            listen: self.listen,
            pod_name: self.pod_name.as_deref().and_then(some),
            log_format: self.log_format,
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            node_image: some(&self.node_image).unwrap_or_else(|| NODE_IMAGE.to_owned()),
            cuda_suffix: self.cuda_suffix.clone(),
            auto_upgrade: self.auto_upgrade,
            namespace: some(&self.namespace).unwrap_or_else(|| NAMESPACE.to_owned()),
            monitoring_namespaces: self.monitoring_namespaces.iter().filter_map(|one| some(one)).collect(),
            watch_namespace: self.watch_namespace.as_deref().and_then(some),
            concurrency: self.concurrency,
        }
    }
}

/// Charts set a variable to nothing where nothing is meant.
fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// As an API server takes it; empty means the default.
fn namespace(text: &str) -> Result<String, String> {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_name = text.len() <= MAX_NAMESPACE
        && text.bytes().all(legal)
        && !text.starts_with('-')
        && !text.ends_with('-');
    is_name.then(|| text.to_owned()).ok_or_else(|| {
        format!("a namespace has up to {MAX_NAMESPACE} lower-case letters, digits and '-', which is not at its ends")
    })
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "an IP address and a port are wanted, as 0.0.0.0:8080 or [::]:8080".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(flags: &[&str]) -> RunArgs {
        let words = ["operator", "run"].iter().chain(flags);
        match Cli::try_parse_from(words).unwrap().command {
            Command::Run(args) => args,
            Command::Crd => panic!("no run"),
        }
    }

    fn settings(flags: &[&str]) -> Settings {
        parsed(flags).settings()
    }

    #[test]
    fn a_process_has_an_address_and_maybe_a_name() {
        let given = parsed(&["--listen=[::1]:0", "--pod-name=a", "--log-format=json"]).process();
        assert_eq!(given.listen, "[::1]:0".parse().unwrap());
        assert_eq!(given.pod_name.as_deref(), Some("a"));
        assert_eq!(given.log_format, LogFormat::Json);
        assert_eq!(parsed(&["--pod-name="]).process().pod_name, None);
        let refused = Cli::try_parse_from(["operator", "run", "--listen=8080"]).unwrap_err().to_string();
        assert!(refused.contains("--listen") && refused.contains("0.0.0.0:8080"), "{refused}");
    }

    #[test]
    fn flags_are_settings() {
        let defaults = settings(&[]);
        assert_eq!(defaults.watch_namespace, None);
        assert_eq!(settings(&["--namespace="]).namespace, defaults.namespace);
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
        assert_eq!(settings(&["--node-image="]).node_image, defaults.node_image);
    }

    #[test]
    fn what_no_namespace_can_be_called_is_refused_with_its_flag() {
        let long = "n".repeat(64);
        for name in ["x y", "Team", "team_a", "-a", "a-", "a.b", &long] {
            for flag in ["--namespace", "--watch-namespace", "--monitoring-namespace"] {
                let refused = Cli::try_parse_from(["operator", "run", &format!("{flag}={name}")]);
                let refused = refused.unwrap_err().to_string();
                assert!(
                    refused.contains(flag) && refused.contains("lower-case letters"),
                    "{name}: {refused}"
                );
            }
        }
        assert_eq!(settings(&["--namespace=0-a"]).namespace, "0-a");
    }
}
