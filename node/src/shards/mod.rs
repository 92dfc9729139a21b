//! The task that owns the shards of a node: [`table`] decides, this acts, and everybody else sees [`Holding`]s.
//!
//! ```text
//! --shard-id, LOAD_SHARD ─▶ want ─┐
//! plan (manifest) ────────────────┼─▶ Table ─▶ Obtain: verify the file here, else fetch it from peers
//! outcomes, deadlines ────────────┘         ├▶ Load: weights to the engine thread
//!                                           └▶ Withdraw: sessions end, weights are freed
//!                         holdings (watch) ─▶ announcements, [STATUS], LOAD_SHARD's answer
//! ```

mod obtain;
pub mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use shard_wire::announce::{ReplicaState, ShardInfo};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::clock::sleep_until;
use crate::config::EngineConfig;
use crate::library::{Library, Verified};
use crate::report::{self, Console, Source};
use crate::ring::stage::driver::Stages;
use crate::serving::{self, Loaded};

pub use obtain::Obtain;
use table::{Action, Event, Phase, Table};
pub use table::{Problem, WantError};

/// Orders that wait for the task.
const ORDERS: usize = 16;
/// Sessions on a shard that is given up may go on for so long.
const GRACE: Duration = Duration::from_secs(30);
/// Between two looks at the progress of downloads.
const PROGRESS: Duration = Duration::from_secs(1);

/// One shard of this node.
#[derive(Clone, Debug, PartialEq)]
pub struct Holding {
    /// As it is announced.
    pub info: ShardInfo,
    /// What went wrong with it last, while it does not serve.
    pub problem: Option<Problem>,
    /// Its file and the file's size, once it is verified.
    pub file: Option<(PathBuf, u64)>,
}

impl Holding {
    /// Nothing goes on that ends by itself without peers: a node can join with it as it is.
    fn settled(&self) -> bool {
        match self.info.state {
            ReplicaState::Joining => self.problem.is_some() || self.info.plan.is_empty(),
            ReplicaState::Loading => false,
            _ => true,
        }
    }
}

/// The door to the shards of a node.
#[derive(Clone)]
pub struct Shards {
    orders: mpsc::Sender<Order>,
    holdings: watch::Receiver<Vec<Holding>>,
}

struct Order {
    shard: u32,
    replace: bool,
    reply: oneshot::Sender<Result<(), WantError>>,
}

/// What a node has its shards with.
pub struct ShardsConfig {
    /// The shards that it is to have.
    pub wanted: Vec<u32>,
    /// How they are computed.
    pub engine: EngineConfig,
    /// Finds their files.
    pub obtain: Obtain,
    /// Serves them.
    pub stages: Stages,
    /// Tells the user.
    pub console: Console,
    /// The node has joined the network.
    pub joined: Arc<AtomicBool>,
}

impl Shards {
    /// Starts the task; it ends with the last handle, or when nobody sends plans any more.
    pub fn spawn(config: ShardsConfig, mut plans: watch::Receiver<Option<Arc<Library>>>) -> Self {
        let (orders, ordered) = mpsc::channel(ORDERS);
        let (publish, holdings) = watch::channel(Vec::new());
        let mut task = Task {
            table: Table::new(config.wanted.iter().copied()),
            config,
            plan: None,
            generation: 0,
            verified: BTreeMap::new(),
            sources: BTreeMap::new(),
            serving: BTreeMap::new(),
            downloads: BTreeMap::new(),
            told: BTreeSet::new(),
            work: JoinSet::new(),
            publish,
        };
        // At once, so that whoever waits until it is settled sees what begins.
        let plan = plans.borrow_and_update().clone();
        if plan.is_none() {
            let ShardsConfig { wanted, obtain, .. } = &task.config;
            task.told = wanted.iter().copied().filter(|shard| obtain.tell_if_missing(*shard)).collect();
        }
        task.on_plan(plan);
        task.publish();
        tokio::spawn(task.run(ordered, plans));
        Self { orders, holdings }
    }

    /// Takes a shard on, beside or instead of the others.
    ///
    /// # Errors
    /// Where it does not.
    pub async fn want(&self, shard: u32, replace: bool) -> Result<(), WantError> {
        let (reply, answer) = oneshot::channel();
        let busy = WantError::Busy { shard };
        self.orders.send(Order { shard, replace, reply }).await.map_err(|_| busy.clone())?;
        answer.await.unwrap_or(Err(busy))
    }

    /// The shards as they are, at any moment.
    pub fn holdings(&self) -> watch::Receiver<Vec<Holding>> {
        self.holdings.clone()
    }

    /// Waits until every shard is served or waits for peers.
    pub async fn settled(&self) {
        let mut holdings = self.holdings.clone();
        // The task ends only with the node.
        let _ = holdings.wait_for(|holdings| holdings.iter().all(Holding::settled)).await;
    }
}

/// How something that ran beside the task ended.
enum Outcome {
    Obtained { shard: u32, generation: u64, result: Result<(Verified, Source), Problem> },
    Loaded { shard: u32, generation: u64, result: Result<Box<Loaded>, Problem> },
    Withdrawn { shard: u32 },
}

struct Task {
    table: Table,
    config: ShardsConfig,
    plan: Option<Arc<Library>>,
    /// Grows with every plan: what an earlier one began does not count.
    generation: u64,
    verified: BTreeMap<u32, Verified>,
    /// How their files came.
    sources: BTreeMap<u32, Source>,
    /// What the engine has, as it is announced.
    serving: BTreeMap<u32, Holding>,
    downloads: BTreeMap<u32, watch::Receiver<obtain::Progress>>,
    /// Shards of which the user knows that they are not here.
    told: BTreeSet<u32>,
    work: JoinSet<Outcome>,
    publish: watch::Sender<Vec<Holding>>,
}

impl Task {
    async fn run(
        mut self,
        mut orders: mpsc::Receiver<Order>,
        mut plans: watch::Receiver<Option<Arc<Library>>>,
    ) {
        let mut progress = interval(PROGRESS);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let deadline = self.table.next_deadline();
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.on_order(order),
                    None => return,
                },
                changed = plans.changed() => match changed {
                    Ok(()) => {
                        let plan = plans.borrow_and_update().clone();
                        self.on_plan(plan);
                    }
                    Err(_) => return,
                },
                Some(Ok(outcome)) = self.work.join_next() => self.on_outcome(outcome).await,
                _ = progress.tick(), if !self.downloads.is_empty() => {}
                () = sleep_until(deadline) => self.on(Event::Tick),
            }
            self.publish();
        }
    }

    fn on_order(&mut self, order: Order) {
        let Order { shard, replace, reply } = order;
        let result = self.table.want(shard, replace, Instant::now()).map(|actions| self.act(actions));
        // The answer follows what it speaks of.
        self.publish();
        let _ = reply.send(result);
    }

    fn on_plan(&mut self, plan: Option<Arc<Library>>) {
        let Some(plan) = plan.filter(|new| self.plan.as_ref().is_none_or(|old| old.plan != new.plan)) else {
            return;
        };
        self.generation += 1;
        self.verified.clear();
        let count = plan.shard_count();
        self.plan = Some(plan);
        self.on(Event::Plan(count));
    }

    fn on(&mut self, event: Event) {
        let actions = self.table.on(event, Instant::now());
        self.act(actions);
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Obtain(shard) => self.obtain(shard),
                Action::Load(shard) => self.load(shard),
                Action::Impossible(shard) => {
                    let count = self.plan.as_ref().map_or(0, |plan| plan.shard_count());
                    let why = WantError::OutOfRange { shard, count };
                    self.config.console.say(&report::shard_not_loaded(shard, &why.to_string()));
                }
                Action::Withdraw(shard) => {
                    let stages = self.config.stages.clone();
                    self.serving.remove(&shard);
                    let there = self.plan.as_ref().is_some_and(|plan| shard < plan.shard_count());
                    let why =
                        if there { "another one takes its place" } else { "the plan has no such shard" };
                    self.config.console.say(&report::shard_given_up(shard, why));
                    self.work.spawn(async move {
                        stages.withdraw(shard, GRACE).await;
                        Outcome::Withdrawn { shard }
                    });
                }
            }
        }
    }

    fn obtain(&mut self, shard: u32) {
        let Some(plan) = self.plan.clone() else { return };
        let (progress, seen) = watch::channel(obtain::Progress::Verifying);
        self.downloads.insert(shard, seen);
        let (obtain, generation) = (self.config.obtain.clone(), self.generation);
        let told = self.told.remove(&shard);
        self.work.spawn(async move {
            let result = obtain.file(plan, shard, progress, told).await.map_err(|error| error.problem());
            Outcome::Obtained { shard, generation, result }
        });
    }

    fn load(&mut self, shard: u32) {
        let (Some(plan), Some(file)) = (self.plan.clone(), self.verified.get(&shard).cloned()) else {
            return;
        };
        let (engine, generation) = (self.config.engine, self.generation);
        let mut bar = self.config.console.bar();
        self.work.spawn(async move {
            let result = serving::load(plan, shard, file, engine, move |done, total| {
                // The first half was to verify it.
                bar.load(shard, total + done, 2 * total);
            })
            .await;
            let problem = |error: serving::LoadShardError| Problem::new(error.to_string());
            Outcome::Loaded { shard, generation, result: result.map(Box::new).map_err(problem) }
        });
    }

    async fn on_outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Obtained { generation, .. } | Outcome::Loaded { generation, .. }
                if generation != self.generation => {}
            Outcome::Obtained { shard, result: Ok((file, source)), .. } => {
                self.downloads.remove(&shard);
                self.sources.insert(shard, source);
                self.verified.insert(shard, file);
                self.on(Event::Obtained(shard));
            }
            Outcome::Obtained { shard, result: Err(problem), .. } => {
                self.downloads.remove(&shard);
                self.failed(shard, problem);
            }
            Outcome::Loaded { shard, result: Ok(loaded), .. } => self.serve(shard, *loaded).await,
            Outcome::Loaded { shard, result: Err(problem), .. } => self.failed(shard, problem),
            Outcome::Withdrawn { shard } => self.on(Event::Withdrawn(shard)),
        }
    }

    async fn serve(&mut self, shard: u32, loaded: Loaded) {
        let Loaded { file, model, warnings, served, info } = loaded;
        for warning in &warnings {
            tracing::warn!(shard, "{warning}");
        }
        let console = self.config.console;
        console.say(&report::tensor_load_done(shard));
        console.say(&match self.sources.remove(&shard) {
            _ if !self.config.joined.load(Ordering::Relaxed) => {
                report::shard_loaded(shard, &file.path, file.size)
            }
            source => {
                let source = source.unwrap_or(Source::Command);
                report::shard_loaded_later(shard, &file.path, file.size, source)
            }
        });
        self.config.stages.serve(shard, served, model).await;
        let holding = Holding { info, problem: None, file: Some((file.path, file.size)) };
        self.serving.insert(shard, holding);
        self.on(Event::Loaded(shard));
    }

    fn failed(&mut self, shard: u32, problem: Problem) {
        self.config.console.say(&report::shard_not_loaded(shard, &problem.text));
        self.on(Event::Failed(shard, problem));
    }

    fn publish(&mut self) {
        let shards = self.table.shards();
        let holdings: Vec<Holding> =
            shards.iter().map(|(shard, phase, problem)| self.holding(*shard, *phase, *problem)).collect();
        self.publish.send_if_modified(|shown| {
            let changed = *shown != holdings;
            *shown = holdings;
            changed
        });
    }

    fn holding(&self, shard: u32, phase: Phase, problem: Option<&Problem>) -> Holding {
        if let Some(serving) = self.serving.get(&shard).filter(|_| phase == Phase::Serving) {
            return serving.clone();
        }
        let progress = self.downloads.get(&shard).map(|progress| progress.borrow().clone());
        let state = match (phase, &progress) {
            (Phase::Obtaining, Some(obtain::Progress::Fetching(_))) => ReplicaState::Downloading,
            (Phase::Obtaining | Phase::Obtained | Phase::Loading | Phase::Serving, _) => {
                ReplicaState::Loading
            }
            (Phase::Waiting, _) => ReplicaState::Joining,
            (Phase::Leaving, _) => ReplicaState::Leaving,
        };
        let mut info = serving::unloaded(self.plan.as_deref(), shard, state, &self.config.engine);
        if let Some(obtain::Progress::Fetching(download)) = progress {
            info.download = Some(download);
        }
        let file = self.verified.get(&shard).map(|file| (file.path.clone(), file.size));
        Holding { info, problem: problem.cloned(), file }
    }
}
