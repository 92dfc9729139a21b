//! Arguments of every program that stays.

use clap::Args;
use shard_wire::contract as c;

use crate::config::{LogFormat, RunConfig};

/// How a program runs.
#[derive(Args, Clone, Copy, Debug)]
pub struct RunArgs {
    /// Form of the log on standard error, and of the lines on standard output
    #[arg(long = c::LOG_FORMAT.flag, env = c::LOG_FORMAT.env, default_value = c::LOG_FORMAT.default, value_name = "FORM")]
    log_format: LogFormat,
    /// For `shardctl up`: its children end with it
    #[arg(long = UNTIL_STDIN_CLOSES, hide = true)]
    until_stdin_closes: bool,
}

/// Not for users, and so not in the table of settings.
pub const UNTIL_STDIN_CLOSES: &str = "until-stdin-closes";

impl RunArgs {
    pub(super) fn resolve(self) -> RunConfig {
        RunConfig { log: self.log_format, until_stdin_closes: self.until_stdin_closes }
    }
}
