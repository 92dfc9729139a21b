//! One gateway, asked for as long as it is there.

use std::future::Future;
use std::time::Duration;

use shard_wire::pipeline::PipelineStatus;
use tokio::time::{Instant, sleep};

use super::link::{GatewayError, Link};

/// Between an answer and the next question: changes that come together are one.
const PAUSE: Duration = Duration::from_millis(250);
/// After an answer that says nothing new, and yet came at once: this gateway does not wait.
const PATIENCE: Duration = Duration::from_secs(2);
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// Tells each answer that differs from the last one, and a silence once.
pub(super) async fn poll<T, F>(mut link: Link, tell: T)
where
    T: Fn(Result<PipelineStatus, GatewayError>) -> F + Send,
    F: Future<Output = ()> + Send,
{
    let mut last: Option<PipelineStatus> = None;
    let (mut silent, mut retry) = (false, FIRST_RETRY);
    // A connection that lay idle may have been closed by then: only the second failure in a row is one.
    let mut failed = false;
    loop {
        let asked = Instant::now();
        let since = last.as_ref().map(|last| last.revision.as_str());
        match link.pipeline(since).await {
            Ok(answer) => {
                let news = silent || last.as_ref() != Some(&answer);
                if news {
                    tell(Ok(answer.clone())).await;
                    last = Some(answer);
                }
                (silent, failed, retry) = (false, false, FIRST_RETRY);
                sleep(if news || asked.elapsed() > PATIENCE { PAUSE } else { PATIENCE }).await;
            }
            Err(error) => {
                let told = failed || matches!(error, GatewayError::Late { .. });
                if told && !silent {
                    silent = true;
                    tell(Err(error)).await;
                }
                failed = true;
                sleep(retry).await;
                retry = (2 * retry).min(LAST_RETRY);
                // Whatever it says next, it says at once.
                if silent {
                    last = None;
                }
            }
        }
    }
}
