//! `shardctl generate`: one answer from a running fleet.

use super::answer::{self, AnswerError, Question};
use super::http::Gateway;
use super::{Ending, Failure, Shutdown};
use crate::config::Output;
use crate::config::args::GenerateArgs;
use crate::telemetry::tell;

pub(super) async fn run(args: GenerateArgs, mut shutdown: Shutdown) -> Result<Ending, Failure> {
    let gateway = Gateway::open(&args.gateway)?;
    let question = Question::new(&args.ask, args.model.as_deref()).ok_or(AnswerError::Nothing)?;
    let summary = tokio::select! {
        summary = answer::print(&gateway, &question, args.output) => summary?,
        () = shutdown.begun() => return Ok(Ending::Interrupted),
    };
    if args.output == Output::Text {
        tell(&format!("\n{}", summary.report()));
    }
    Ok(Ending::Done)
}
