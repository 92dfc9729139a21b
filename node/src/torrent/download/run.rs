//! One download from its first look at the disk to the final name.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use libp2p::PeerId;
use shard_wire::manifest;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::super::DownloadError;
use super::super::content::FileContent;
use super::super::link::{FromLink, Link, LinkError, LinkEvent, Shared};
use super::super::part::Part;
use super::super::plan::{Action, Event, MAX_ASKED, Plan, TICK};
use super::super::shelf::{Shelf, file_key};
use super::look::{Found, look};
use super::progress::{Phase, Progress, Rate};
use super::whole::Whole;
use super::{Inner, Stop};

/// Events of links that wait for the loop, which waits for nobody.
const EVENTS: usize = 256;
/// What a link may take to confirm its last pieces.
const FAREWELL: Duration = Duration::from_secs(2);

pub(super) async fn run(
    inner: &Inner,
    file: manifest::File,
    seeders: watch::Receiver<Vec<PeerId>>,
    progress: &Arc<watch::Sender<Progress>>,
    stop: &Stop,
) -> Result<PathBuf, DownloadError> {
    let (name, sha256) = (file.name.clone(), file.sha256.clone());
    let ended = || DownloadError::Ended { name: name.clone() };
    let look = {
        let (disk, folder) = (Arc::clone(&inner.disk), inner.folder.clone());
        let (progress, stop) = (Arc::clone(progress), stop.flag());
        move || look(disk, &folder, file, &progress, &stop)
    };
    let found = tokio::task::spawn_blocking(look).await.map_err(|_| ended())??;
    let path = match found {
        Found::Whole(path) => path,
        Found::Part(part) => {
            let offered = Offered::new(&inner.shelf, &part);
            let whole = fetch(inner, &part, seeders, progress).await?;
            progress.send_modify(|progress| progress.phase = Phase::Finishing);
            let found = whole.finish().await?;
            let publish = move || part.publish(found);
            let path = tokio::task::spawn_blocking(publish).await.map_err(|_| ended())??;
            drop(offered);
            path
        }
    };
    if let Ok(content) = FileContent::open(path.clone()) {
        inner.shelf.offer_content(&sha256, Arc::new(content));
    }
    progress.send_modify(|progress| {
        progress.phase = Phase::Over;
        progress.eta = Some(Duration::ZERO);
    });
    Ok(path)
}

/// The verified pieces of an unfinished file go out while this lives.
struct Offered<'a> {
    shelf: &'a Shelf,
    sha256: String,
}

impl<'a> Offered<'a> {
    fn new(shelf: &'a Shelf, part: &Arc<Part>) -> Self {
        let content = Arc::clone(part);
        shelf.offer_partial(part.about(), content, part.bits());
        Self { shelf, sha256: part.about().sha256.clone() }
    }
}

impl Drop for Offered<'_> {
    fn drop(&mut self) {
        self.shelf.withdraw_partial(&self.sha256);
    }
}

/// Fetches what is missing. Returns how far the whole is hashed.
async fn fetch(
    inner: &Inner,
    part: &Arc<Part>,
    mut seeders: watch::Receiver<Vec<PeerId>>,
    progress: &watch::Sender<Progress>,
) -> Result<Whole, DownloadError> {
    progress.send_modify(|progress| progress.phase = Phase::Fetching);
    let (sender, mut events) = mpsc::channel(EVENTS);
    let mut fetch = Fetch::new(&inner.links, part, sender);
    if !fetch.plan.is_done() {
        announce(&inner.links, &part.about().sha256);
    }
    fetch.know(&seeders.borrow_and_update().clone());
    fetch.whole.advance();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut list_is_open = true;
    while !fetch.plan.is_done() {
        tokio::select! {
            Some(event) = events.recv() => fetch.on_link(event, progress)?,
            Some(ended) = fetch.tasks.join_next(), if !fetch.tasks.is_empty() => {
                if let Ok((peer, number, error)) = ended {
                    fetch.on_lost(peer, number, &error);
                }
            }
            changed = seeders.changed(), if list_is_open => match changed {
                Ok(()) => fetch.know(&seeders.borrow_and_update().clone()),
                Err(_) => list_is_open = false,
            },
            hashed = fetch.whole.turn() => {
                hashed?;
                fetch.whole.advance();
            }
            _ = tick.tick() => fetch.on_tick(progress),
        }
    }
    fetch.on_tick(progress);
    Ok(fetch.finish())
}

/// Others that fetch the file find this node, too. That nobody takes the record is no reason to stop.
fn announce(links: &Shared, sha256: &str) {
    let (network, key) = (links.network.clone(), sha256.to_owned());
    tokio::spawn(async move {
        if let Err(error) = network.provide(key).await {
            tracing::debug!("the download is not announced: {error}");
        }
    });
}

/// A link that is open, and where its asks go.
struct Open {
    number: u64,
    asks: mpsc::Sender<u32>,
    abort: AbortHandle,
}

struct Fetch {
    links: Arc<Shared>,
    part: Arc<Part>,
    key: [u8; 32],
    begun: Instant,
    plan: Plan<PeerId>,
    whole: Whole,
    open: HashMap<PeerId, Open>,
    tasks: JoinSet<(PeerId, u64, LinkError)>,
    events: mpsc::Sender<FromLink>,
    last: u64,
    rate: Rate,
}

impl Fetch {
    fn new(links: &Arc<Shared>, part: &Arc<Part>, events: mpsc::Sender<FromLink>) -> Self {
        let about = part.about();
        let sizes = about.pieces.iter().map(|piece| piece.size).collect();
        let seed = RandomState::new().hash_one(links.network.local_peer());
        let done = part.bits().borrow().clone();
        Self {
            links: Arc::clone(links),
            part: Arc::clone(part),
            key: file_key(&about.sha256).unwrap_or_default(),
            begun: Instant::now(),
            plan: Plan::new(sizes, done, seed, Duration::ZERO),
            whole: Whole::new(Arc::clone(part)),
            open: HashMap::new(),
            tasks: JoinSet::new(),
            events,
            last: 0,
            rate: Rate::default(),
        }
    }

    /// The links end by themselves, when they have confirmed what they got.
    fn finish(self) -> Whole {
        let mut tasks = self.tasks;
        tokio::spawn(async move {
            let all = async { while tasks.join_next().await.is_some() {} };
            // Those that are still there go with `tasks`.
            let _ = timeout(FAREWELL, all).await;
        });
        self.whole
    }

    fn know(&mut self, seeders: &[PeerId]) {
        let me = self.links.network.local_peer();
        let others = seeders.iter().copied().filter(|peer| *peer != me).collect();
        self.on(Event::Seeders(others));
    }

    fn on_link(
        &mut self,
        (peer, number, event): FromLink,
        progress: &watch::Sender<Progress>,
    ) -> Result<(), DownloadError> {
        let is_open = self.open.get(&peer).is_some_and(|open| open.number == number);
        match event {
            LinkEvent::Disk(error) => return Err(error),
            // Whatever became of the link: bytes are right or wrong.
            LinkEvent::Stored(piece) => self.on_stored(peer, piece, progress),
            LinkEvent::Bad(piece) => {
                progress.send_modify(|progress| progress.banned = Some((peer, piece)));
                self.on(Event::Bad { peer, piece });
            }
            LinkEvent::Has(have) if is_open => self.on(Event::Has { peer, have }),
            LinkEvent::Refused(piece, why) if is_open => self.on(Event::Refused { peer, piece, why }),
            LinkEvent::Has(_) | LinkEvent::Refused(..) => {}
        }
        Ok(())
    }

    fn on_stored(&mut self, peer: PeerId, piece: u32, progress: &watch::Sender<Progress>) {
        let size = self.part.about().pieces.get(piece as usize).map_or(0, |piece| piece.size);
        let is_new = self.plan.is_missing(piece);
        self.on(Event::Stored { peer, piece });
        if is_new {
            progress.send_if_modified(|progress| {
                progress.done += size;
                progress.fetched += size;
                // Told with the next tick.
                false
            });
            self.whole.wrote(size);
            self.whole.advance();
        }
    }

    fn on_lost(&mut self, peer: PeerId, number: u64, error: &LinkError) {
        if self.open.get(&peer).is_some_and(|open| open.number == number) {
            tracing::debug!(%peer, file = self.part.about().name, "a peer is lost: {error}");
            self.open.remove(&peer);
            self.on(Event::Lost { peer });
        }
    }

    fn on_tick(&mut self, progress: &watch::Sender<Progress>) {
        self.on(Event::Tick);
        let now = self.begun.elapsed();
        progress.send_modify(|progress| {
            progress.peers = self.plan.active_peers();
            progress.bytes_per_s = self.rate.mark(progress.fetched, now);
            let missing = self.plan.missing_bytes();
            let eta = |rate| Duration::from_secs_f64(missing as f64 / rate as f64);
            progress.eta = Some(progress.bytes_per_s).filter(|rate| *rate > 0).map(eta);
        });
    }

    fn on(&mut self, event: Event<PeerId>) {
        for action in self.plan.on(event, self.begun.elapsed()) {
            match action {
                Action::Connect(peer) => self.connect(peer),
                Action::Close(peer) => {
                    if let Some(open) = self.open.remove(&peer) {
                        open.abort.abort();
                    }
                }
                Action::Ask { peer, piece } => {
                    // The plan keeps within what a link takes; one that has ended is lost in a moment.
                    let _ = self.open.get(&peer).map(|open| open.asks.try_send(piece));
                }
            }
        }
    }

    fn connect(&mut self, peer: PeerId) {
        self.last += 1;
        let number = self.last;
        let (asks, queue) = mpsc::channel(MAX_ASKED);
        let link = Link {
            shared: Arc::clone(&self.links),
            part: Arc::clone(&self.part),
            key: self.key,
            peer,
            number,
            events: self.events.clone(),
        };
        let abort = self.tasks.spawn(async move { (peer, number, link.run(queue).await) });
        self.open.insert(peer, Open { number, asks, abort });
    }
}
