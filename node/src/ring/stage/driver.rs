//! The task that owns a node's sessions: events in, [`Table`] decides, actions out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use libp2p::PeerId;
use shard_wire::frame::Dtype;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::job::{Done, Job, Output, Run};
use super::table::{Action, Drops, Ended, Event, Limits, Served, Table};
use super::worker::{Engine, Model};
use crate::net::NetEvent;
use crate::ring::lanes::{Inbound, Lanes};

/// Between two looks at leases and deadlines.
const TICK: Duration = Duration::from_millis(100);
/// Finished forwards that wait for the task; the engine thread waits beyond.
const DONE: usize = 256;
/// Shards that wait to be served.
const SHARDS: usize = 16;

/// What a node's sessions are doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct StageStatus {
    /// Slots that are taken, and how many there are.
    pub active: usize,
    /// Sessions at once on each shard.
    pub max_sessions: usize,
    /// Slots that are taken on each shard that has any.
    pub active_by_shard: BTreeMap<u32, usize>,
    /// Sessions that were admitted; some of them a later stage has refused.
    pub total: u64,
    /// Sessions that have ended.
    pub ended: Ended,
    /// Forwards that ended.
    pub forwards: u64,
    /// Rows of these: prompt tokens and decoded tokens.
    pub rows: u64,
    /// Forwards that failed.
    pub failed: u64,
    /// Time in forwards, waiting not included.
    pub busy_us: u64,
    /// Frames that were dropped.
    pub drops: Drops,
}

/// Which shards the stages are to serve.
enum Order {
    Serve(u32, Served, Box<dyn Model>),
    Drain(u32),
    Withdraw(u32),
}

/// The door to a node's stages.
#[derive(Clone)]
pub struct Stages {
    orders: mpsc::Sender<Order>,
    status: watch::Receiver<StageStatus>,
    engine: Engine,
}

impl Stages {
    /// Starts the engine thread and the task that owns the sessions. `inbox` comes from the lanes.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn spawn(
        me: PeerId,
        limits: Limits,
        activations: Dtype,
        lanes: Lanes,
        inbox: mpsc::Receiver<Inbound>,
        events: broadcast::Receiver<NetEvent>,
    ) -> std::io::Result<Self> {
        let (done, finished) = mpsc::channel(DONE);
        // A step, a window of chunks and room to spare for every slot of every shard.
        let capacity = limits.max_sessions.saturating_mul(SHARDS);
        let engine = Engine::spawn(activations, capacity, move |end| drop(done.blocking_send(end)))?;
        let (orders, ordered) = mpsc::channel(SHARDS);
        let first = StageStatus { max_sessions: limits.max_sessions, ..StageStatus::default() };
        let (publish, status) = watch::channel(first);
        let driver = Driver { table: Table::new(me, limits), engine: engine.clone(), lanes, publish };
        tokio::spawn(driver.run(inbox, finished, ordered, events));
        Ok(Self { orders, status, engine })
    }

    /// Serves a loaded shard, in place of another of this id.
    pub async fn serve(&self, shard: u32, served: Served, model: Box<dyn Model>) {
        let _ = self.orders.send(Order::Serve(shard, served, model)).await;
    }

    /// Takes no new sessions on a shard, lets those under way end within `grace`, ends the rest, and frees its weights.
    pub async fn withdraw(&self, shard: u32, grace: Duration) {
        let _ = self.orders.send(Order::Drain(shard)).await;
        let mut status = self.status.clone();
        let ended = status.wait_for(|status| !status.active_by_shard.contains_key(&shard));
        let _ = tokio::time::timeout(grace, ended).await;
        let _ = self.orders.send(Order::Withdraw(shard)).await;
    }

    /// How long the engine's forward that is under way has taken; zero between forwards.
    pub fn busy_for(&self) -> Duration {
        self.engine.busy_for()
    }

    /// What the sessions are doing.
    pub fn status(&self) -> StageStatus {
        let forwards = self.engine.forwards();
        StageStatus { forwards, ..self.status.borrow().clone() }
    }
}

struct Driver {
    table: Table,
    engine: Engine,
    lanes: Lanes,
    publish: watch::Sender<StageStatus>,
}

impl Driver {
    async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Inbound>,
        mut finished: mpsc::Receiver<Done>,
        mut ordered: mpsc::Receiver<Order>,
        mut events: broadcast::Receiver<NetEvent>,
    ) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // What ends a forward goes first: it frees the engine's way on.
                biased;
                Some(done) = finished.recv() => self.done(done),
                frame = inbox.recv() => match frame {
                    Some(Inbound::Frame(from, frame)) => self.on(Event::Frame(from, frame)),
                    Some(Inbound::Unsent(to, frame)) => self.on(Event::Unsent(to, frame)),
                    None => return,
                },
                event = events.recv() => match event {
                    Ok(NetEvent::Disconnected { peer, .. }) => {
                        self.lanes.forget(peer);
                        self.on(Event::Gone(peer));
                    }
                    Ok(NetEvent::Connected { peer, .. }) => self.on(Event::Back(peer)),
                    Err(broadcast::error::RecvError::Closed) => return,
                    _ => {}
                },
                order = ordered.recv() => match order {
                    Some(Order::Serve(shard, served, model)) => {
                        self.engine.serve(shard, model);
                        self.on(Event::Serve(shard, served));
                    }
                    Some(Order::Drain(shard)) => self.on(Event::Drain(shard)),
                    Some(Order::Withdraw(shard)) => {
                        self.on(Event::Withdraw(shard));
                        self.engine.withdraw(shard);
                    }
                    None => return,
                },
                _ = tick.tick() => self.on(Event::Tick),
            }
        }
    }

    fn done(&mut self, done: Done) {
        let failed = matches!(done.output, Output::Failed(_));
        self.publish.send_modify(|status| {
            status.rows += u64::from(done.count);
            status.failed += u64::from(failed);
            status.busy_us += u64::try_from(done.computed.as_micros()).unwrap_or(u64::MAX);
        });
        self.on(Event::Done(done));
    }

    fn on(&mut self, event: Event) {
        for action in self.table.on(event, Instant::now()) {
            match action {
                Action::Send(to, frame) => self.lanes.send(to, frame),
                Action::Engine(job) => {
                    let opens = matches!(job, Job::Open(_));
                    if opens {
                        self.publish.send_modify(|status| status.total += 1);
                    }
                    if let Err(refused) = self.engine.push(job) {
                        self.refused(&refused);
                    }
                }
            }
        }
        let (active, drops) = (self.table.active(), self.table.drops());
        self.publish.send_if_modified(|status| {
            let changed = status.active != active || status.drops != drops;
            if changed {
                (status.active, status.drops) = (active, drops);
                status.active_by_shard = self.table.active_by_shard();
                status.ended = self.table.ended();
            }
            changed
        });
    }

    /// The table admits no more than the queue holds; if it does all the same, the session fails and says so.
    fn refused(&mut self, run: &Run) {
        let Run { key, epoch, position, ref input, .. } = *run;
        let output = Output::Failed("the engine's queue is full".into());
        let (queued, computed) = (Duration::ZERO, Duration::ZERO);
        self.on(Event::Done(Done { key, epoch, position, count: input.count(), output, queued, computed }));
    }
}
