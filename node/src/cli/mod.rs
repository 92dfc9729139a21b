//! One executable holds every program and looks at its own name:
//!
//! ```text
//!  argv[0] ─▶ server          config::ServerConfig   ─▶ bootstrap::run
//!             shard_listener  config::ListenerConfig ─▶ listener::run
//!             web_server      config::GatewayConfig  ─▶ web::run
//!             anything else   shardctl: up, fetch, split, inspect, plan, generate, status, call, bench
//! ```
//! Exit codes: 0 done, 1 failed (the reason is on standard error), 2 wrong arguments, 130 interrupted.

mod answer;
mod bench;
mod call;
mod fetch;
mod generate;
mod http;
mod inspect;
mod plan;
mod split;
mod status;
mod table;
mod up;

use std::error::Error;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use shard_wire::contract::Program;

use crate::config::RunConfig;
use crate::config::args::{
    CallArgs, FetchArgs, GatewayArgs, GenerateArgs, ListenerArgs, ServerArgs, StatusArgs, UpArgs,
};
use crate::telemetry;

use crate::shutdown::Shutdown;

/// What ended a command early.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// Exit code of a command that was interrupted: 128 and SIGINT's number, as shells have it.
const INTERRUPTED: u8 = 130;

/// A language model cut into layer shards over several machines.
#[derive(Debug, Parser)]
#[command(
    name = "shardctl",
    version,
    arg_required_else_help = true,
    after_help = "\
Examples:
  shardctl up --prompt 'Once upon a time'     one answer from a fleet on this machine
  shardctl up                                 serve on http://127.0.0.1:8080 until Ctrl-C
  shardctl status                             who serves which layers, and what is missing

Under the names server, shard_listener and web_server the same executable is these programs."
)]
struct Shardctl {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(UpArgs),
    Fetch(FetchArgs),
    Split(split::SplitArgs),
    Inspect(inspect::InspectArgs),
    Plan(plan::PlanArgs),
    Generate(GenerateArgs),
    Status(StatusArgs),
    Call(CallArgs),
    Bench(bench::BenchArgs),
}

/// How a command ended, where it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It did what it was asked.
    Done,
    /// The node that was called answered with an error, which is printed.
    Refused,
    /// The user ended it before it was done.
    Interrupted,
}

/// The program that the executable's name says.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let name = arguments.first().and_then(|path| Path::new(path).file_stem()?.to_str());
    main_as(match name {
        Some("server") => Some(Program::Server),
        Some("shard_listener") => Some(Program::ShardListener),
        Some("web_server") => Some(Program::WebServer),
        _ => None,
    })
}

/// One program, whatever the executable is called; those that are commands of `shardctl` are read as its arguments.
pub fn main_as(program: Option<Program>) -> ExitCode {
    let ended = match program {
        Some(Program::Server) => server(),
        Some(Program::ShardListener) => listener(),
        Some(Program::WebServer) => web(),
        _ => shardctl(),
    };
    match ended {
        Ok(Ending::Done) => ExitCode::SUCCESS,
        Ok(Ending::Refused) => ExitCode::FAILURE,
        Ok(Ending::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(error) => {
            telemetry::complain(&*error);
            ExitCode::FAILURE
        }
    }
}

/// The arguments of every program, for tests and for README's table.
pub fn commands() -> Vec<(Program, clap::Command)> {
    let shardctl = Shardctl::command();
    Program::ALL
        .into_iter()
        .filter_map(|program| {
            let command = match program {
                Program::Server => command::<ServerArgs>(program),
                Program::ShardListener => command::<ListenerArgs>(program),
                Program::WebServer => command::<GatewayArgs>(program),
                _ => shardctl.find_subcommand(program.name())?.clone(),
            };
            Some((program, command))
        })
        .collect()
}

fn command<A: Args>(program: Program) -> clap::Command {
    A::augment_args(clap::Command::new(program.name()).version(env!("CARGO_PKG_VERSION")))
}

/// Prints help, version or what is wrong, and exits, where there is no value to return.
fn parse<A: Args>(program: Program) -> A {
    let matches = command::<A>(program).get_matches();
    A::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command::<A>(program)).exit())
}

fn server() -> Result<Ending, Failure> {
    let config = parse::<ServerArgs>(Program::Server).resolve().unwrap_or_else(|error| {
        command::<ServerArgs>(Program::Server).error(ErrorKind::ArgumentConflict, error).exit()
    });
    daemon(config.run, async |shutdown| Ok(crate::bootstrap::run(config, shutdown).await?))
}

fn listener() -> Result<Ending, Failure> {
    let config = parse::<ListenerArgs>(Program::ShardListener).resolve().unwrap_or_else(|error| {
        command::<ListenerArgs>(Program::ShardListener).error(ErrorKind::ArgumentConflict, error).exit()
    });
    daemon(config.run, async |shutdown| Ok(crate::listener::run(config, shutdown).await?))
}

fn web() -> Result<Ending, Failure> {
    let config = parse::<GatewayArgs>(Program::WebServer).resolve();
    daemon(config.run, async |shutdown| Ok(crate::web::run(config, shutdown).await?))
}

fn shardctl() -> Result<Ending, Failure> {
    match Shardctl::parse().command {
        // Files only: no runtime, and Ctrl-C ends them at once.
        Command::Split(args) => split::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Bench(args) => bench::run(args),
        Command::Up(args) => until_stopped(async |shutdown| up::run(args, shutdown).await),
        Command::Fetch(args) => {
            let config = args
                .resolve()
                .unwrap_or_else(|error| Shardctl::command().error(ErrorKind::ArgumentConflict, error).exit());
            until_stopped(async |shutdown| fetch::run(config, shutdown).await)
        }
        Command::Generate(args) => until_stopped(async |shutdown| generate::run(args, shutdown).await),
        Command::Status(args) => until_stopped(async |shutdown| status::run(args, shutdown).await),
        Command::Call(args) => until_stopped(async |shutdown| call::run(args, shutdown).await),
    }
}

/// A command that waits for others, and for Ctrl-C.
fn until_stopped(command: impl AsyncFnOnce(Shutdown) -> Result<Ending, Failure>) -> Result<Ending, Failure> {
    block_on(async { command(Shutdown::watch(false)?).await })
}

/// A program that stays until it is told to end.
fn daemon(
    config: RunConfig,
    program: impl AsyncFnOnce(Shutdown) -> Result<(), Failure>,
) -> Result<Ending, Failure> {
    // Before there are threads: each of them allocates.
    shard_engine::give_back_freed_memory();
    telemetry::start(config.log);
    block_on(async {
        program(Shutdown::watch(config.until_stdin_closes)?).await?;
        Ok(Ending::Done)
    })
}

fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(work);
    // Whoever interrupts a long split does not wait for it: it leaves nothing under a final name.
    runtime.shutdown_background();
    done
}
