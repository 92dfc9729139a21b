//! Files that a node fetches beside those of its shards: the tokenizer, and by `--replicate` more of the plan. When all of
//! it is there and served, what earlier plans have left goes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use shard_wire::manifest::{self, File};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::config::SwarmConfig;
use crate::fetching::Fetcher;
use crate::library::Library;
use crate::shards::Holding;
use crate::torrent::replicate::{self, Situation};

/// After files that could not be fetched, and between two looks at which are rare.
const AGAIN: Duration = Duration::from_secs(30);

/// Fetches further files.
pub struct Replicas {
    /// What to fetch.
    pub config: SwarmConfig,
    /// Where the files lie.
    pub dir: PathBuf,
    /// Fetches them.
    pub fetcher: Fetcher,
    /// The plan.
    pub plan: watch::Receiver<Option<Arc<Library>>>,
    /// The shards: their files are fetched by their owner.
    pub holdings: watch::Receiver<Vec<Holding>>,
    /// Differs from node to node.
    pub seed: u64,
}

impl Replicas {
    /// Fetches what is wanted of each plan, until the node ends.
    pub async fn run(mut self) {
        self.plan.mark_changed();
        let mut tidied = None;
        loop {
            let library = self.plan.borrow_and_update().clone();
            let complete = match &library {
                Some(library) => self.round(library).await,
                None => true,
            };
            self.holdings.mark_unchanged();
            let untidy = library.filter(|library| tidied.as_ref() != Some(&library.plan));
            if let Some(library) = untidy.as_ref().filter(|library| complete && self.served(library)) {
                self.fetcher.tidy(library).await;
                tidied = Some(library.plan.clone());
                continue;
            }
            tokio::select! {
                changed = self.plan.changed() => if changed.is_err() { return },
                changed = self.holdings.changed(), if complete && untidy.is_some() => {
                    if changed.is_err() { return }
                }
                () = sleep(AGAIN), if !complete => {}
            }
        }
    }

    /// Every shard of this node is served as this plan has it.
    fn served(&self, library: &Library) -> bool {
        let holdings = self.holdings.borrow();
        holdings.iter().all(|holding| holding.info.serves() && holding.info.plan == library.plan)
    }

    /// One look at what is lacking. True where nothing is.
    async fn round(&self, library: &Library) -> bool {
        let own: Vec<String> = self
            .holdings
            .borrow()
            .iter()
            .map(|holding| manifest::shard_name(holding.info.shard_id as usize))
            .collect();
        let held: Vec<String> = library
            .manifest
            .files
            .iter()
            .filter(|file| self.fetcher.files.holds(&file.sha256))
            .map(|file| file.name.clone())
            .collect();
        let seeders: HashMap<String, usize> = library
            .manifest
            .files
            .iter()
            .map(|file| {
                let known = self.fetcher.known.read(|registry| registry.seeders(&file.sha256).len());
                (file.name.clone(), known)
            })
            .collect();
        let situation = Situation {
            manifest: &library.manifest,
            own: &own,
            held: &held,
            seeders: &seeders,
            storage_limit: self.config.storage_limit,
            other_bytes: other_bytes(&self.dir, library),
            seed: self.seed,
        };
        let mut wanted: Vec<&File> = replicate::choose(self.config.replicate, &situation);
        let tokenizer = library.manifest.file(manifest::TOKENIZER);
        let lacks = tokenizer.filter(|file| !held.contains(&file.name));
        if let Some(tokenizer) = lacks.filter(|file| wanted.iter().all(|other| other.name != file.name)) {
            wanted.push(tokenizer);
        }
        let fetched = wanted.into_iter().map(|file| async move {
            let fetched = self.fetcher.file(library, file, |_| {}).await;
            if let Err(error) = &fetched {
                tracing::info!("{} is not replicated: {error}", file.name);
            }
            fetched.is_ok()
        });
        join_all(fetched).await.into_iter().all(|fetched| fetched)
    }
}

/// Bytes of model files in the folder that the plan does not name.
fn other_bytes(dir: &Path, library: &Library) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let other = entries.flatten().filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.ends_with(".gguf") && library.manifest.file(&name).is_none()
    });
    other.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}
