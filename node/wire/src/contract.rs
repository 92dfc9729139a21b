//! Names that programs, users and the operator rely on: flags, `LLAMA_*` variables, defaults, ports. Each stands here once;
//! the programs' arguments are built from this table, and a test holds it against them and against README's.

/// A program of the one executable; `shardctl`'s commands that share settings with the others count too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `server`: the bootstrap.
    Server,
    /// `shard_listener`: a node.
    ShardListener,
    /// `web_server`: the gateway.
    WebServer,
    /// `shardctl up`.
    Up,
    /// `shardctl fetch`.
    Fetch,
    /// `shardctl generate`.
    Generate,
    /// `shardctl status`.
    Status,
    /// `shardctl call`.
    Call,
}

impl Program {
    /// All of them, in the order of README's table.
    pub const ALL: [Self; 8] = [
        Self::Server,
        Self::ShardListener,
        Self::WebServer,
        Self::Up,
        Self::Fetch,
        Self::Generate,
        Self::Status,
        Self::Call,
    ];

    /// What the user types.
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::ShardListener => "shard_listener",
            Self::WebServer => "web_server",
            Self::Up => "up",
            Self::Fetch => "fetch",
            Self::Generate => "generate",
            Self::Status => "status",
            Self::Call => "call",
        }
    }
}

/// One setting: a flag, its variable, its default and the programs that have it.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The flag, without `--`; empty for what would be seen in the list of processes.
    pub flag: &'static str,
    /// The variable that stands in for the flag.
    pub env: &'static str,
    /// What holds when neither is given; empty where that depends or there is none.
    pub default: &'static str,
    /// Who has it.
    pub programs: &'static [Program],
}

/// Where a fleet's bootstrap listens, TCP and UDP.
pub const BOOTSTRAP_PORT: u16 = 51820;
/// Where a bootstrap answers diagnostics.
pub const DIAGNOSTICS_PORT: u16 = 51821;
/// Where a gateway answers HTTP.
pub const HTTP_PORT: u16 = 8080;

/// Variables without a flag: everybody on a machine sees a program's arguments. The token for a model at a URL.
pub const MODEL_TOKEN: &str = "LLAMA_MODEL_TOKEN";
/// The token for `hf:`.
pub const HF_TOKEN: &str = "LLAMA_HF_TOKEN";

use Program::{Call, Fetch, Generate, Server, ShardListener, Status, Up, WebServer};

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident = $flag:literal, $env:literal, $default:literal, [$($program:ident),*];)*) => {
        $($(#[$doc])* pub const $name: Setting =
            Setting { flag: $flag, env: $env, default: $default, programs: &[$($program),*] };)*
        /// Every setting.
        pub const SETTINGS: &[Setting] = &[$($name),*];
    };
}

settings! {
    /// Entries to the network.
    BOOTSTRAP = "bootstrap", "LLAMA_BOOTSTRAP", "/ip4/127.0.0.1/tcp/51820", [ShardListener, WebServer, Call];
    /// The cluster's name: part of every key in the DHT.
    CLUSTER = "cluster", "LLAMA_CLUSTER", "llama-cluster", [Server, ShardListener, WebServer, Call];
    /// What the members of the cluster know.
    CLUSTER_SECRET_FILE = "cluster-secret-file", "LLAMA_CLUSTER_SECRET_FILE", "", [Server, ShardListener, WebServer, Call];
    /// The same, without a file.
    CLUSTER_SECRET = "", "LLAMA_CLUSTER_SECRET", "", [Server, ShardListener, WebServer, Call];
    /// Which transports to listen on and dial.
    TRANSPORT = "transport", "LLAMA_TRANSPORT", "dual", [Server, ShardListener, WebServer, Up, Call];
    /// The interface to listen on.
    LISTEN_ADDR = "listen-addr", "LLAMA_LISTEN_ADDR", "0.0.0.0", [Server, ShardListener, WebServer];
    /// Port of a bootstrap.
    SERVER_PORT = "port", "LLAMA_PORT", "51820", [Server];
    /// Port of the bootstrap that `up` starts.
    UP_PORT = "port", "LLAMA_PORT", "", [Up];
    /// Port of a node.
    NODE_PORT = "port", "LLAMA_PORT", "0", [ShardListener];
    /// Port of a gateway for its peers.
    GATEWAY_PORT = "port", "LLAMA_PORT", "", [WebServer];
    /// Addresses at which others reach the node.
    EXTERNAL_ADDRESS = "external-address", "LLAMA_EXTERNAL_ADDRESS", "", [Server, ShardListener, WebServer];
    /// The key pair that gives a stable peer id.
    IDENTITY_FILE = "identity-file", "LLAMA_IDENTITY_FILE", "", [Server, ShardListener, WebServer];
    /// Diagnostics of a bootstrap.
    SERVER_DIAGNOSTICS_PORT = "diagnostics-port", "LLAMA_DIAGNOSTICS_PORT", "51821", [Server];
    /// Diagnostics of the bootstrap that `up` starts.
    UP_DIAGNOSTICS_PORT = "diagnostics-port", "LLAMA_DIAGNOSTICS_PORT", "", [Up];
    /// Diagnostics of a node.
    NODE_DIAGNOSTICS_PORT = "diagnostics-port", "LLAMA_DIAGNOSTICS_PORT", "", [ShardListener];
    /// Form of the log on standard error.
    LOG_FORMAT = "log-format", "LLAMA_LOG_FORMAT", "text", [Server, ShardListener, WebServer];
    /// The shards to serve.
    SHARD_ID = "shard-id", "LLAMA_SHARD_ID", "", [ShardListener];
    /// What the manifest must say.
    TOTAL_SHARDS = "total-shards", "LLAMA_TOTAL_SHARDS", "", [ShardListener];
    /// The one plan that a node takes.
    PLAN = "plan", "LLAMA_PLAN", "", [ShardListener];
    /// What the manifest must say.
    TOTAL_LAYERS = "total-layers", "LLAMA_TOTAL_LAYERS", "", [ShardListener];
    /// What the model calls itself, or what to call it.
    MODEL_NAME = "model-name", "LLAMA_MODEL_NAME", "", [ShardListener];
    /// Where the shard files and the manifest lie.
    SHARDS_DIR = "shards-dir", "LLAMA_SHARDS_DIR", "models_cache/shards", [ShardListener];
    /// The folder of an origin.
    SERVER_SHARDS_DIR = "shards-dir", "LLAMA_SHARDS_DIR", "", [Server];
    /// Where `fetch` puts the model and its shards.
    OUT = "out", "LLAMA_SHARDS_DIR", "models_cache/shards", [Fetch];
    /// The model that a bootstrap is the origin of.
    MODEL_SOURCE = "model-source", "LLAMA_MODEL_SOURCE", "", [Server];
    /// How many shards an origin cuts it into.
    ORIGIN_SHARDS = "shards", "LLAMA_SHARDS", "", [Server];
    /// How many shards to cut a fetched model into.
    FETCH_SHARDS = "shards", "LLAMA_SHARDS", "", [Fetch];
    /// What a start of an origin is called.
    INCARNATION = "incarnation", "LLAMA_INCARNATION", "", [Server];
    /// Which layers the shards begin with.
    LAYERS = "layers", "LLAMA_LAYERS", "", [Server, Fetch];
    /// What the model must hash to.
    SHA256 = "sha256", "LLAMA_MODEL_SHA256", "", [Server, Fetch];
    /// What opens the source.
    TOKEN_FILE = "token-file", "LLAMA_MODEL_TOKEN_FILE", "", [Server, Fetch];
    /// Whom to trust beside the public authorities.
    CA_FILE = "ca-file", "LLAMA_MODEL_CA_FILE", "", [Server, Fetch];
    /// Where `hf:` is.
    HF_ENDPOINT = "hf-endpoint", "LLAMA_HF_ENDPOINT", "https://huggingface.co", [Server, Fetch];
    /// Replace the shards of another model.
    FORCE = "force", "LLAMA_FORCE", "", [Fetch];
    /// Which further files of the plan to fetch and give.
    REPLICATE = "replicate", "LLAMA_REPLICATE", "own", [ShardListener];
    /// Bytes that all files in the folder may have.
    STORAGE_LIMIT = "storage-limit", "LLAMA_STORAGE_LIMIT", "", [ShardListener];
    /// Bytes per second of pieces to peers.
    UPLOAD_LIMIT = "upload-limit", "LLAMA_UPLOAD_LIMIT", "", [Server, ShardListener];
    /// Seconds between announcements.
    REFRESH_INTERVAL = "refresh-interval", "LLAMA_REFRESH_INTERVAL", "300", [ShardListener];
    /// Threads of the engine.
    THREADS = "threads", "LLAMA_THREADS", "", [ShardListener];
    /// What computes the layers.
    DEVICE = "device", "LLAMA_DEVICE", "cpu", [ShardListener, Up];
    /// How weights lie in memory.
    WEIGHTS = "weights", "LLAMA_WEIGHTS", "auto", [ShardListener, Up];
    /// Type of the KV cache.
    KV_DTYPE = "kv-dtype", "LLAMA_KV_DTYPE", "f16", [ShardListener, Up];
    /// Type of the activations between shards.
    ACTIVATION_DTYPE = "activation-dtype", "LLAMA_ACTIVATION_DTYPE", "f32", [ShardListener, Up];
    /// Sessions at a time.
    MAX_SESSIONS = "max-sessions", "LLAMA_MAX_SESSIONS", "4", [ShardListener, Up];
    /// Positions of a session.
    CONTEXT_LENGTH = "context-length", "LLAMA_CONTEXT_LENGTH", "", [ShardListener, Up];
    /// Port of the OpenAI API.
    GATEWAY_HTTP_PORT = "http-port", "LLAMA_HTTP_PORT", "8080", [WebServer];
    /// Keys of the API's clients, one per line.
    API_KEYS_FILE = "api-keys-file", "LLAMA_API_KEYS_FILE", "", [WebServer];
    /// A key that is good for the pipeline object only.
    OPERATOR_KEY_FILE = "operator-key-file", "LLAMA_OPERATOR_KEY_FILE", "", [WebServer];
    /// Answer that the cluster is suspended.
    SUSPENDED = "suspended", "LLAMA_SUSPENDED", "", [WebServer];
    /// How long a lost shard is waited for.
    RECOVERY_TIMEOUT = "recovery-timeout", "LLAMA_RECOVERY_TIMEOUT", "30", [WebServer];
    /// Port of the OpenAI API of the fleet that `up` starts.
    UP_HTTP_PORT = "http-port", "LLAMA_HTTP_PORT", "", [Up];
    /// The model file.
    MODEL = "model", "LLAMA_MODEL", "", [Up];
    /// How many shards to cut it into.
    SHARDS = "shards", "LLAMA_SHARDS", "4", [Up];
    /// Where `up` keeps its files.
    STATE = "state", "LLAMA_STATE", "", [Up];
    /// Engine threads of each shard.
    THREADS_PER_SHARD = "threads-per-shard", "LLAMA_THREADS_PER_SHARD", "", [Up];
    /// A raw completion.
    PROMPT = "prompt", "LLAMA_PROMPT", "", [Up, Generate];
    /// A chat message.
    CHAT = "chat", "LLAMA_CHAT", "", [Up, Generate];
    /// Sampling temperature.
    TEMPERATURE = "temperature", "LLAMA_TEMPERATURE", "0.7", [Up, Generate];
    /// Length of the answer.
    MAX_TOKENS = "max-tokens", "LLAMA_MAX_TOKENS", "128", [Up, Generate];
    /// Seed of the sampling.
    SEED = "seed", "LLAMA_SEED", "", [Up, Generate];
    /// The gateway to ask.
    URL = "url", "LLAMA_URL", "http://127.0.0.1:8080", [Generate, Status];
    /// The caller's API key.
    API_KEY_FILE = "api-key-file", "LLAMA_API_KEY_FILE", "", [Generate, Status];
    /// Which of the gateway's models.
    MODEL_ID = "model", "LLAMA_MODEL_NAME", "", [Generate];
    /// Form of what is printed.
    OUTPUT = "output", "LLAMA_OUTPUT", "text", [Up, Fetch, Generate, Status, Call];
    /// Keep on printing.
    WATCH = "watch", "LLAMA_WATCH", "", [Status];
    /// Seconds to wait for an answer.
    TIMEOUT = "timeout", "LLAMA_TIMEOUT", "30", [Call];
}
