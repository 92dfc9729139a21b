//! Which plan a node serves: the one that it is told; else that of the manifest in its folder, until an origin says
//! another; for an empty folder, one that its peers have. One that does not fit what the node is told it never takes.
//!
//! ```text
//! manifest.json ──────────────────────────────┐
//! SYNC_TORRENTS (who has which manifest) ─┐    ├─▶ Library, on a watch channel
//! announcements (who serves which plan) ──┴─▶ fetch, verify, adopt
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use libp2p::PeerId;
use shard_wire::frame;
use shard_wire::manifest::Manifest;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::cluster::ClusterView;
use crate::config::Expected;
use crate::library::{Library, LibraryError};
use crate::net::Network;
use crate::torrent::fetch;
use crate::torrents::{Known, Registry};

/// After a plan could not be had, and between two looks where nothing is heard.
const AGAIN: Duration = Duration::from_secs(2);

/// Why a plan is not adopted.
#[derive(Debug, Error)]
pub enum PlanError {
    /// The user expects another model, or another cut of it.
    #[error(
        "{flag} says {given}, the manifest says {found}: leave the flag out, or use the files of that model"
    )]
    Unexpected {
        /// Which flag.
        flag: &'static str,
        /// What it says.
        given: String,
        /// What the manifest says.
        found: String,
    },
    /// The plan has fewer shards.
    #[error("--shard-id says {shard}, the manifest has {count} shards: ids go from 0 to {}", count - 1)]
    NoSuchShard {
        /// The shard asked for.
        shard: u32,
        /// What the manifest has.
        count: u32,
    },
    /// The origin speaks another wire version.
    #[error(
        "plan {plan} is of wire version {found}, this program speaks {}: run the release of its origin",
        frame::VERSION
    )]
    WireVersion {
        /// The plan.
        plan: String,
        /// Its wire version.
        found: u8,
    },
    /// Nobody gave it.
    #[error("the manifest of plan {plan} could not be had from any of {peers} peers: {last}")]
    NotGiven {
        /// The plan.
        plan: String,
        /// How many were asked.
        peers: usize,
        /// What the last one said.
        last: String,
    },
    /// It cannot be kept.
    #[error(transparent)]
    Library(#[from] LibraryError),
}

impl PlanError {
    /// The plan does not fit what the user says: asking again changes nothing.
    fn is_of_plan(&self) -> bool {
        matches!(self, Self::Unexpected { .. } | Self::NoSuchShard { .. } | Self::WireVersion { .. })
    }
}

/// Whether a plan is one that the user wants served.
///
/// # Errors
/// [`PlanError::Unexpected`], [`PlanError::NoSuchShard`].
pub fn expect(expected: &Expected, plan: &str, manifest: &Manifest) -> Result<(), PlanError> {
    let differs = |flag, given: Option<String>, found: String| match given {
        Some(given) if given != found => Err(PlanError::Unexpected { flag, given, found }),
        _ => Ok(()),
    };
    let count = manifest.layer_starts.len() as u32;
    let text = |number: Option<u32>| number.map(|number| number.to_string());
    differs("--plan", expected.plan.clone(), plan.to_owned())?;
    differs("--total-shards", text(expected.total_shards), count.to_string())?;
    differs("--total-layers", text(expected.total_layers), manifest.total_layers.to_string())?;
    if let Some(&shard) = expected.shards.iter().find(|shard| **shard >= count) {
        return Err(PlanError::NoSuchShard { shard, count });
    }
    Ok(())
}

/// Finds the plan of a node.
pub struct Plans {
    /// The network.
    pub network: Network,
    /// Where manifest and files are kept.
    pub dir: PathBuf,
    /// What the user says of the model.
    pub expected: Expected,
    /// Who has which manifest.
    pub known: Known,
    /// Who serves which plan.
    pub view: watch::Receiver<Arc<ClusterView>>,
    /// What was found.
    pub found: watch::Sender<Option<Arc<Library>>>,
}

impl Plans {
    /// Looks until the network ends.
    pub async fn run(mut self) {
        let mut changes = self.known.changes();
        let mut said = String::new();
        let mut unfit = None;
        loop {
            if let Some(plan) = self.wanted().filter(|plan| unfit.as_ref() != Some(plan)) {
                match self.adopt(&plan).await {
                    Ok(library) => {
                        tracing::info!(plan, "this plan is served from now on");
                        self.found.send_replace(Some(Arc::new(library)));
                        said.clear();
                    }
                    Err(error) if error.is_of_plan() => {
                        tracing::warn!(plan, "this plan is not taken: {error}");
                        unfit = Some(plan);
                    }
                    Err(error) => {
                        // The same trouble every two seconds is one line.
                        let now = error.to_string();
                        if std::mem::replace(&mut said, now.clone()) != now {
                            tracing::warn!(plan, "{now}");
                        }
                        sleep(AGAIN).await;
                        continue;
                    }
                }
            }
            let open = tokio::select! {
                changed = changes.changed() => changed.is_ok(),
                changed = self.view.changed() => changed.is_ok(),
                () = self.found.closed() => false,
            };
            if !open {
                return;
            }
        }
    }

    /// The plan to have instead of the own one, or of none. A node that is told its plan keeps it, whatever an origin says:
    /// it is told another one when its turn has come.
    fn wanted(&self) -> Option<String> {
        let own = self.found.borrow().as_ref().map(|library| library.plan.clone());
        if let Some(only) = &self.expected.plan {
            return Some(only.clone()).filter(|_| own.is_none());
        }
        let named = self.known.read(|registry| registry.plan_to_adopt(own.as_deref()));
        let served = || {
            let view = self.view.borrow();
            view.plan.as_ref().map(|plan| plan.name.clone()).filter(|_| own.is_none())
        };
        named.or_else(served)
    }

    async fn adopt(&self, plan: &str) -> Result<Library, PlanError> {
        let found = self.known.read(|registry| registry.wire_version(plan));
        if found != frame::VERSION {
            return Err(PlanError::WireVersion { plan: plan.to_owned(), found });
        }
        let peers = self.peers(plan);
        let (mut last, mut control) = ("nobody is known to have it".to_owned(), self.network.streams());
        for peer in &peers {
            if let Err(error) = self.network.dial(Some(*peer), Vec::new()).await {
                last = format!("{peer}: {error}");
                continue;
            }
            match fetch::manifest(&mut control, *peer, plan, found).await {
                Ok(manifest) => {
                    expect(&self.expected, plan, &manifest)?;
                    let dir = self.dir.clone();
                    let adopted = tokio::task::spawn_blocking(move || Library::adopt(&dir, manifest)).await;
                    return match adopted {
                        Ok(library) => Ok(library?),
                        Err(error) => Err(not_given(plan, peers.len(), error.to_string())),
                    };
                }
                Err(error) => last = format!("{peer}: {error}"),
            }
        }
        Err(not_given(plan, peers.len(), last))
    }

    /// Whom to ask, first those who say so, then those who serve it.
    fn peers(&self, plan: &str) -> Vec<PeerId> {
        let mut peers = self.known.read(|registry: &Registry| registry.manifest_seeders(plan));
        let view = self.view.borrow();
        for replica in view.replicas.iter().filter(|replica| replica.shard.plan == plan) {
            if !peers.contains(&replica.peer) {
                peers.push(replica.peer);
            }
        }
        peers
    }
}

fn not_given(plan: &str, peers: usize, last: String) -> PlanError {
    PlanError::NotGiven { plan: plan.to_owned(), peers, last }
}
