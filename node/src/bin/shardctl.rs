//! Every program: `shardctl`, and by the name of a link `server`, `shard_listener` and `web_server`.

use std::process::ExitCode;

fn main() -> ExitCode {
    shard_node::cli::main()
}
