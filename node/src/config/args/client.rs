//! Arguments of the commands that talk to a running fleet.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};
use shard_wire::contract as c;

use super::{DialArgs, SecretArgs};
use crate::config::values::{cluster, duration, temperature};
use crate::config::{Output, Transport};

/// What to ask and how to answer it.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Answer")]
pub struct AskArgs {
    /// Text to go on from, without chat template
    #[arg(long = c::PROMPT.flag, env = c::PROMPT.env, value_name = "TEXT", conflicts_with = "chat", allow_hyphen_values = true)]
    pub prompt: Option<String>,
    /// Message to answer, in the model's chat template
    #[arg(long = c::CHAT.flag, env = c::CHAT.env, value_name = "TEXT", allow_hyphen_values = true)]
    pub chat: Option<String>,
    /// 0 is greedy: the likeliest token each time
    #[arg(long = c::TEMPERATURE.flag, env = c::TEMPERATURE.env, default_value = c::TEMPERATURE.default, value_name = "T", value_parser = temperature)]
    pub temperature: f32,
    /// Tokens of the answer at most
    #[arg(long = c::MAX_TOKENS.flag, env = c::MAX_TOKENS.env, default_value = c::MAX_TOKENS.default, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(crate::config::MAX_CONTEXT)))]
    pub max_tokens: u32,
    /// The same seed gives the same answer [default: the gateway's choice]
    #[arg(long = c::SEED.flag, env = c::SEED.env, value_name = "N")]
    pub seed: Option<u64>,
}

/// Which gateway to ask, and as whom.
#[derive(Args, Clone, Debug)]
pub struct GatewayAddress {
    /// The gateway
    #[arg(long = c::URL.flag, env = c::URL.env, default_value = c::URL.default)]
    pub url: String,
    /// File with the API key, where the gateway asks for one
    #[arg(long = c::API_KEY_FILE.flag, env = c::API_KEY_FILE.env, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
}

/// One answer from a running fleet, token by token.
#[derive(Args, Clone, Debug)]
#[command(group(ArgGroup::new("question").args(["prompt", "chat"]).required(true)))]
#[command(after_help = "\
Examples:
  shardctl generate --prompt 'Once upon a time' --temperature 0
  shardctl generate --url http://192.0.2.10:8080 --chat 'Who lives in the wood?' --output json

The answer goes to standard output, the summary to standard error; with --output json one object has both.")]
pub struct GenerateArgs {
    /// Whom to ask.
    #[command(flatten)]
    pub gateway: GatewayAddress,
    /// Which of the gateway's models [default: the one it serves]
    #[arg(long = c::MODEL_ID.flag, env = c::MODEL_ID.env, value_name = "NAME")]
    pub model: Option<String>,
    /// The question.
    #[command(flatten)]
    pub ask: AskArgs,
    /// Form of what is printed
    #[arg(long = c::OUTPUT.flag, env = c::OUTPUT.env, default_value = c::OUTPUT.default)]
    pub output: Output,
}

/// The pipeline as a gateway sees it: shards, layers, nodes, and what is missing.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  shardctl status
  shardctl status --watch
  shardctl status --output json | jq .missing_layers

It exits 0 whether or not the pipeline is complete, and 1 when the gateway does not answer.")]
pub struct StatusArgs {
    /// Whom to ask.
    #[command(flatten)]
    pub gateway: GatewayAddress,
    /// Print again at every change, until interrupted
    #[arg(long = c::WATCH.flag, env = c::WATCH.env)]
    pub watch: bool,
    /// Form of what is printed
    #[arg(long = c::OUTPUT.flag, env = c::OUTPUT.env, default_value = c::OUTPUT.default)]
    pub output: Output,
}

/// One command to one node, by /json-message/1.0, and its answer.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  shardctl call /ip4/127.0.0.1/tcp/40123/p2p/12D3KooW… GET_CAPABILITIES
  shardctl call --bootstrap 127.0.0.1:51820 12D3KooW… GET_METRICS
  shardctl call 192.0.2.11:40123 LOAD_SHARD '{\"shard_id\": 3, \"replace\": true}'
  shardctl call 192.0.2.11:40123 INFERENCE '{\"prompt\": \"Once upon a time\", \"max_tokens\": 16}'

A node is a multiaddr, HOST:PORT, or a peer id, which is looked up through --bootstrap.
A cluster with a secret answers only who gives it, with --cluster-secret-file.
It exits 0 when the node's status is ok, 1 when it is error.")]
pub struct CallArgs {
    /// The node: a multiaddr, HOST:PORT or a peer id
    #[arg(value_name = "NODE")]
    pub node: String,
    /// The command, such as GET_CAPABILITIES
    #[arg(value_name = "COMMAND")]
    pub command: String,
    /// The command's parameters, a JSON object
    #[arg(value_name = "PARAMS", default_value = "{}")]
    pub params: String,
    /// Where to look a peer id up.
    #[command(flatten)]
    pub dial: DialArgs,
    /// Name of the cluster
    #[arg(long = c::CLUSTER.flag, env = c::CLUSTER.env, default_value = c::CLUSTER.default, value_name = "NAME", value_parser = cluster)]
    pub cluster: String,
    /// What its members know.
    #[command(flatten)]
    pub secret: SecretArgs,
    /// What to dial; dual is QUIC first, then TCP
    #[arg(long = c::TRANSPORT.flag, env = c::TRANSPORT.env, default_value = c::TRANSPORT.default)]
    pub transport: Transport,
    /// How long to wait, in seconds or as 500ms
    #[arg(long = c::TIMEOUT.flag, env = c::TIMEOUT.env, default_value = c::TIMEOUT.default, value_name = "TIME", value_parser = duration)]
    pub timeout: Duration,
    /// text prints the data, json the whole response
    #[arg(long = c::OUTPUT.flag, env = c::OUTPUT.env, default_value = c::OUTPUT.default)]
    pub output: Output,
}
