//! A node.

use std::process::ExitCode;

use shard_wire::contract::Program;

fn main() -> ExitCode {
    shard_node::cli::main_as(Some(Program::ShardListener))
}
