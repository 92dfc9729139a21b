//! `shardctl up`: a whole fleet on this machine.
//!
//! ```text
//!  1 home      the model, cut into shards in the state folder (kept for the next start); links and logs of this run
//!  2 ports     free, or the ones asked for: a port in use ends it here, before anything runs
//!  3 children  server → shard_listener × N, web_server: links to this executable, one log file each
//!  4 progress  what the gateway says of the pipeline, until it is complete
//!  5 answer    one, streamed to standard output; or URLs, and wait for Ctrl-C
//!  6 stop      every child's standard input closes: it ends as on SIGTERM, or is killed after a grace
//! ```
//! A child that ends before it is told to ends everything, with its last lines. All but the answer goes to standard
//! error.

pub(super) mod children;
pub(super) mod group;
pub(super) mod home;
pub(super) mod ports;
pub(super) mod progress;
pub(super) mod run_folder;

use std::io::{self, Write};
use std::path::Path;
use std::thread::available_parallelism;

use serde_json::json;
use tokio::time::Instant;

use self::children::Fleet;
use self::group::Stop;
use self::home::Home;
use self::ports::Ports;
use super::answer::{self, Question};
use super::http::Gateway;
use super::{Ending, Failure, Shutdown};
use crate::config::args::UpArgs;
use crate::config::{Output, word};
use crate::store::split::Shards;
use crate::telemetry::tell;

pub(super) async fn run(args: UpArgs, mut shutdown: Shutdown) -> Result<Ending, Failure> {
    let started = Instant::now();
    let question = Question::new(&args.ask, None);
    let ports = Ports::choose(&args.ports, question.is_some())?;
    let preparing = args.clone();
    let preparing = tokio::task::spawn_blocking(move || {
        let cut = Shards::Count(preparing.shards as usize);
        Home::prepare(preparing.model.as_deref(), preparing.state.as_deref(), &cut)
    });
    let home = tokio::select! {
        home = preparing => home??,
        () = shutdown.begun() => return Ok(Ending::Interrupted),
    };
    say(&format!("state in {}; logs of this run in {}", home.state.display(), home.run.display()));

    let mut fleet = Fleet::new(&home, args.transport, args.engine(share(args.shards)?), &ports, shutdown);
    let served = serve(&args, &ports, &mut fleet, question.as_ref(), started).await;
    fleet.stop().await;
    let ending = match served {
        Ok(ending) => ending,
        Err(Stop::Interrupted) if question.is_some() => Ending::Interrupted,
        Err(Stop::Interrupted) => {
            say("stopped");
            Ending::Done
        }
        // The logs stay where the message says.
        Err(Stop::Failed(failure)) => return Err(failure),
    };
    home.forget();
    Ok(ending)
}

async fn serve(
    args: &UpArgs,
    ports: &Ports,
    fleet: &mut Fleet,
    question: Option<&Question>,
    started: Instant,
) -> Result<Ending, Stop> {
    say(&format!("starting server on port {}", ports.port));
    fleet.start_server()?;
    fleet.during(progress::until_ready(ports.diagnostics)).await?;

    say(&format!("building the pipeline: {} shards over {}", args.shards, word(&args.transport)));
    for shard in 0..args.shards {
        fleet.start_shard(shard)?;
    }
    fleet.start_gateway()?;
    let gateway = Gateway::local(ports.http);
    let pipeline = fleet.during(progress::until_complete(&gateway, started)).await?;

    let url = format!("http://127.0.0.1:{}", ports.http);
    let Some(question) = question else {
        match args.output {
            Output::Text => say(&welcome(&url, ports, fleet.secret())),
            Output::Json => writeln!(io::stdout(), "{}", json!({ "url": url, "pipeline": pipeline }))?,
        }
        return fleet.during(std::future::pending()).await;
    };
    say("");
    let summary = fleet.during(async { Ok(answer::print(&gateway, question, args.output).await?) }).await?;
    say(&format!("\n{}", summary.report().trim_end()));
    Ok(Ending::Done)
}

/// A line of progress.
/// Engine threads of each shard: the cores, shared out.
fn share(shards: u32) -> io::Result<u16> {
    let cores = u32::try_from(available_parallelism()?.get()).unwrap_or(u32::MAX);
    Ok(u16::try_from((cores / shards).clamp(1, 1024)).unwrap_or(1))
}

fn say(line: &str) {
    tell(&format!("{line}\n"));
}

fn welcome(url: &str, ports: &Ports, secret: &Path) -> String {
    format!(
        "\
OpenAI API   {url}/v1
pipeline     {url}/api/v1/pipeline
bootstrap    127.0.0.1:{} (diagnostics http://127.0.0.1:{}/status)

try  shardctl generate --url {url} --prompt 'Once upon a time'
     shardctl status --url {url}
     shardctl call --cluster-secret-file {} --bootstrap 127.0.0.1:{} PEER_ID GET_METRICS
Ctrl-C stops everything.",
        ports.port,
        ports.diagnostics,
        secret.display(),
        ports.port
    )
}
