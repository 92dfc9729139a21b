//! Of all operators one leads: who holds the Lease.
//!
//! ```text
//!  waits:  look at the lease, each second ─▶ election ─┬▶ it is another's: wait
//!                                                      └▶ it is free: write our name into it ─▶ leads
//!  leads:  a term of its own ─▶ reconciles, which write through the fence
//!          renew the lease, each 2 s ─┬▶ renewed: the fence moves on
//!                                     ├▶ it is another's, or the fence is closed: abort the term ─▶ waits
//!                                     └▶ told to stop: the term ends by itself ─▶ the lease is given back
//! ```
//! A leader that cannot renew has closed its fence 4 s before anybody else may take the lease.

mod election;
mod fence;
mod identity;
mod lease;

use std::future::Future;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use thiserror::Error;
use tokio::select;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::clock::uptime;
use crate::telemetry::Telemetry;
use crate::words::words;
use election::{Election, Step, TERM};
pub use fence::Fence;
pub(crate) use identity::identity;
use lease::LeaseApi;
pub use lease::LeaseError;

/// Name of the Lease.
pub const LEASE: &str = "shardcluster-operator";
/// How often who waits looks, and who leads tries again where a renewal failed.
const LOOK: Duration = Duration::from_secs(1);
const RENEW: Duration = Duration::from_secs(2);
/// An error that stays the same is told so often.
const REPEAT: Duration = Duration::from_secs(30);

/// Why an operator gives up.
#[derive(Debug, Error)]
pub enum LeadError {
    /// The work of a leader never ends by itself.
    #[error("the watches ended, and nobody has told them to")]
    Ended,
    /// A fault of this program.
    #[error("a reconcile broke off")]
    Broken(#[source] JoinError),
}

/// One that leads, or waits for it.
pub struct Candidate {
    api: LeaseApi,
    election: Election,
    telemetry: Telemetry,
    /// What was logged last while waiting, and when.
    said: (String, Duration),
}

/// What one look at the lease, and a write where it is ours to write, has led to.
enum Round {
    /// It is ours, as of this uptime.
    Held(Duration),
    /// It is another's.
    Theirs,
    /// Others write it, too: who has won is not known.
    Contended,
}

enum Term {
    Over,
    Stopped,
}

impl Candidate {
    /// `client` is for the lease alone: its requests queue behind no other.
    #[must_use]
    pub fn new(client: Client, namespace: String, identity: String, telemetry: Telemetry) -> Self {
        let api = LeaseApi::new(client, namespace.clone(), LEASE);
        let election = Election::new(namespace, LEASE, identity);
        Self { api, election, telemetry, said: Default::default() }
    }

    /// Runs a `term` each time that this process leads, until `stop`. A term has to end by itself then, and writes
    /// only through its fence.
    ///
    /// # Errors
    /// Where a term ends otherwise.
    pub async fn run<T>(
        mut self,
        stop: impl Future<Output = ()> + Clone,
        term: impl Fn(Fence) -> T,
    ) -> Result<(), LeadError>
    where
        T: Future<Output = ()> + Send + 'static,
    {
        while let Some(since) = self.wait(stop.clone()).await {
            let fence = Fence::until(since + TERM);
            let mut work = JoinSet::new();
            work.spawn(term(fence.clone()));
            self.telemetry.leads();
            info!("leads");
            let ended = self.hold(&fence, &mut work, stop.clone()).await;
            fence.close();
            work.shutdown().await;
            self.telemetry.waits(self.election.holder());
            if let Term::Stopped = ended? {
                break;
            }
        }
        Ok(())
    }

    /// Until the lease is ours, as of an uptime; `None` where the operator is to stop before.
    async fn wait(&mut self, stop: impl Future<Output = ()>) -> Option<Duration> {
        let mut stop = std::pin::pin!(stop);
        loop {
            self.telemetry.health.election_moves();
            let read = select! {
                read = self.api.read() => read,
                () = &mut stop => return None,
            };
            // Not cut short by a stop: a lease that is ours without our knowledge keeps the others waiting.
            let round = match read {
                Ok(lease) => {
                    self.election.observe(lease, uptime());
                    self.claim().await
                }
                Err(error) => Err(error),
            };
            match round {
                Ok(Round::Held(since)) => return Some(since),
                Ok(Round::Theirs | Round::Contended) => {
                    self.telemetry.health.reached();
                    self.telemetry.waits(self.election.holder());
                    let leader = self.election.holder().unwrap_or("whoever had the lease that was deleted");
                    let leader = leader.to_owned();
                    if self.is_news(format!("{leader} leads"), Duration::MAX) {
                        info!(leader, "waits: another leads");
                    }
                }
                Err(error) => {
                    let why = words(&error);
                    self.telemetry.health.not_reached(why.clone());
                    if self.is_news(why.clone(), REPEAT) {
                        warn!(error = why, "cannot lead yet");
                    }
                }
            }
            select! {
                () = sleep(LOOK) => {}
                () = &mut stop => return None,
            }
        }
    }

    /// Until the lease is lost, or the work has ended.
    async fn hold(
        &mut self,
        fence: &Fence,
        work: &mut JoinSet<()>,
        stop: impl Future<Output = ()>,
    ) -> Result<Term, LeadError> {
        let mut pause = RENEW;
        loop {
            self.telemetry.health.election_moves();
            let ended = select! {
                ended = work.join_next() => ended,
                () = sleep(pause.min(fence.left())) => None,
            };
            if let Some(ended) = ended {
                self.release(fence).await;
                ended.map_err(LeadError::Broken)?;
                return futures::FutureExt::now_or_never(stop)
                    .map(|()| Term::Stopped)
                    .ok_or(LeadError::Ended);
            }
            let round = timeout(fence.left(), self.claim()).await;
            pause = LOOK;
            match round {
                Ok(Ok(Round::Held(since))) => {
                    self.telemetry.health.reached();
                    fence.extend(since + TERM);
                    pause = RENEW;
                }
                Ok(Ok(Round::Theirs)) => {
                    warn!(leader = self.election.holder(), "leads no more: the lease was taken, or deleted");
                    return Ok(Term::Over);
                }
                Ok(Ok(Round::Contended)) => {}
                Ok(Err(error)) => {
                    let why = words(&error);
                    warn!(error = why, "the lease was not renewed");
                    self.telemetry.health.not_reached(why);
                }
                Err(_) => {}
            }
            if fence.left().is_zero() {
                warn!("leads no more: the lease was not renewed for {TERM:?}");
                return Ok(Term::Over);
            }
        }
    }

    /// Writes the lease where we may; what others wrote meanwhile is read, and decided upon once more.
    async fn claim(&mut self) -> Result<Round, LeaseError> {
        for _ in 0..2 {
            let sent = uptime();
            let written = match self.election.step(sent, Timestamp::now()) {
                Step::Wait => return Ok(Round::Theirs),
                Step::Create(lease) => self.api.create(&lease).await?,
                Step::Replace(lease) => self.api.replace(&lease).await?,
            };
            match written {
                Some(lease) => {
                    self.election.observe(Some(lease), uptime());
                    return Ok(Round::Held(sent));
                }
                None => {
                    let lease = self.api.read().await?;
                    self.election.observe(lease, uptime());
                }
            }
        }
        Ok(Round::Contended)
    }

    /// For others to lead at once. Where it fails they wait for its end.
    async fn release(&mut self, fence: &Fence) {
        fence.close();
        let Some(lease) = self.election.release(Timestamp::now()) else { return };
        match self.api.replace(&lease).await {
            Ok(Some(_)) => info!("the lease is given back"),
            Ok(None) => info!("the lease is another's already"),
            Err(error) => warn!(error = %words(&error), "the lease could not be given back"),
        }
    }

    /// Whether it was not said last, or long ago.
    fn is_news(&mut self, line: String, repeat: Duration) -> bool {
        let now = uptime();
        let is_news = self.said.0 != line || now.saturating_sub(self.said.1) >= repeat;
        if is_news {
            self.said = (line, now);
        }
        is_news
    }
}
