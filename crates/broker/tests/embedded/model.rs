//! Random publishes, takes, acks, drops, pauses, restarts and crashes, beside a model that is a list.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hooklane_broker::embedded::{EmbeddedBroker, EmbeddedSettings, FILE, Synchronous};
use hooklane_broker::{Broker, Consumption, Destination, Incoming, Queue};
use proptest::prelude::*;
use tokio::time::timeout;

use crate::suite::{PATIENCE, internal, options};

const PREFETCH: u16 = 4;

#[derive(Clone, Debug)]
enum Step {
    Publish(u8),
    Take(u8),
    /// Of those in hand, by place.
    Ack(u8),
    Drop(u8),
    Pause,
    Restart,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_u8..5).prop_map(Step::Publish),
        4 => (1_u8..4).prop_map(Step::Take),
        3 => any::<u8>().prop_map(Step::Ack),
        2 => any::<u8>().prop_map(Step::Drop),
        1 => Just(Step::Pause),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
    ]
}

/// What is known of a message that was confirmed and not acked.
#[derive(Clone, Copy, Default)]
struct Waiting {
    /// It was taken at least once.
    taken: bool,
    /// Least and most deliveries before: a crash may count what was only on its way.
    deliveries: (u64, u64),
}

struct World {
    root: tempfile::TempDir,
    directory: PathBuf,
    crashes: usize,
    broker: EmbeddedBroker,
    consumption: Box<dyn Consumption>,
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
    in_hand: Vec<(u64, Incoming)>,
}

fn open(directory: &Path) -> Result<(EmbeddedBroker, Box<dyn Consumption>)> {
    let mut settings = EmbeddedSettings::new(directory);
    settings.rest_max = Duration::ZERO;
    settings.synchronous = Synchronous::Normal;
    let broker = EmbeddedBroker::open(settings)?;
    let consumption = broker.consume(Queue::Deliveries, options(PREFETCH));
    Ok((broker, consumption))
}

impl World {
    fn new() -> Result<World> {
        let root = tempfile::tempdir()?;
        let directory = root.path().join("0");
        let (broker, consumption) = open(&directory)?;
        Ok(World {
            root,
            directory,
            crashes: 0,
            broker,
            consumption,
            next: 0,
            waiting: BTreeMap::new(),
            in_hand: Vec::new(),
        })
    }

    async fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Publish(count) => {
                for _ in 0..*count {
                    let body = internal(self.next.to_string());
                    let to = Destination::Internal(Queue::Deliveries);
                    self.broker.publish(to, body, PATIENCE).await?;
                    self.waiting.insert(self.next, Waiting::default());
                    self.next += 1;
                }
            }
            Step::Take(count) => {
                for _ in 0..*count {
                    if self.in_hand.len() < usize::from(PREFETCH) && self.in_hand.len() < self.waiting.len() {
                        self.take().await?;
                    }
                }
            }
            Step::Ack(place) => {
                if let Some((number, incoming)) = self.pick(*place) {
                    incoming.ack.ack().await?;
                    self.waiting.remove(&number);
                }
            }
            Step::Drop(place) => {
                if let Some((number, incoming)) = self.pick(*place) {
                    drop(incoming);
                    self.count(number, (1, 1));
                }
            }
            Step::Pause => {
                self.consumption.pause(Duration::ZERO).await;
                let ready = self.broker.depth(Queue::Deliveries).await?;
                ensure!(ready.messages == self.waiting.len() as u64 && ready.consumers == 0);
                self.let_go();
                self.consumption.resume().await;
            }
            Step::Restart => {
                self.broker.shut_down().await;
                self.let_go();
                // What was on its way may be counted: the process cannot know how far it came.
                self.waiting
                    .values_mut()
                    .for_each(|waiting| waiting.deliveries.1 += 1);
                (self.broker, self.consumption) = open(&self.directory)?;
            }
            Step::Crash => self.crash().await?,
        }
        Ok(())
    }

    /// A copy of the files as they lie there is what a killed process leaves behind.
    async fn crash(&mut self) -> Result<()> {
        self.crashes += 1;
        let copy = self.root.path().join(self.crashes.to_string());
        std::fs::create_dir(&copy)?;
        // An answer of the engine: nothing is being written now, and nothing was asked since.
        self.broker.depth(Queue::Deliveries).await?;
        for name in [FILE, "queue.sqlite-wal"] {
            std::fs::copy(self.directory.join(name), copy.join(name))?;
        }
        self.let_go();
        self.waiting
            .values_mut()
            .for_each(|waiting| waiting.deliveries.1 += 1);
        self.directory = copy;
        (self.broker, self.consumption) = open(&self.directory)?;
        Ok(())
    }

    fn pick(&mut self, place: u8) -> Option<(u64, Incoming)> {
        let count = self.in_hand.len();
        (count > 0).then(|| self.in_hand.remove(usize::from(place) % count))
    }

    fn count(&mut self, number: u64, (least, most): (u64, u64)) {
        if let Some(waiting) = self.waiting.get_mut(&number) {
            waiting.deliveries.0 += least;
            waiting.deliveries.1 += most;
        }
    }

    /// What is in hand counts as given back.
    fn let_go(&mut self) {
        for (number, _incoming) in std::mem::take(&mut self.in_hand) {
            self.count(number, (1, 1));
        }
    }

    async fn take(&mut self) -> Result<()> {
        let incoming = timeout(PATIENCE, self.consumption.next()).await;
        let incoming = incoming.context("nothing came")?.context("it ended")?;
        let number: u64 = String::from_utf8(incoming.message.body.to_vec())?.parse()?;
        let waiting = self.waiting.get(&number).copied();
        let waiting = waiting.with_context(|| format!("{number} was acked, or never published"))?;
        ensure!(
            self.in_hand.iter().all(|(held, _)| *held != number),
            "{number} came while it was in hand"
        );
        let (least, most) = waiting.deliveries;
        ensure!(
            (least..=most).contains(&incoming.delivery_count),
            "{number} counts {} deliveries, {least} to {most} were made",
            incoming.delivery_count
        );
        ensure!(incoming.redelivered == (incoming.delivery_count > 0));
        if !waiting.taken {
            let first = self.waiting.iter().find(|(_, waiting)| !waiting.taken);
            ensure!(
                first.map(|(first, _)| *first) == Some(number),
                "{number} came out of turn"
            );
        }
        if let Some(waiting) = self.waiting.get_mut(&number) {
            waiting.taken = true;
        }
        self.in_hand.push((number, incoming));
        Ok(())
    }

    /// Everything that was not acked comes, once.
    async fn end(mut self) -> Result<()> {
        for (number, incoming) in std::mem::take(&mut self.in_hand) {
            incoming.ack.ack().await?;
            self.waiting.remove(&number);
        }
        while !self.waiting.is_empty() {
            self.take().await?;
            self.step(&Step::Ack(0)).await?;
        }
        let depth = self.broker.depth(Queue::Deliveries).await?;
        ensure!(depth.messages == 0, "{} are left", depth.messages);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_what_was_not_acked_comes_in_order_and_once(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let run = async {
            let mut world = World::new()?;
            for step in &steps {
                world.step(step).await?;
            }
            world.end().await
        };
        let result: Result<()> = runtime.block_on(run);
        if let Err(error) = result {
            return Err(TestCaseError::fail(format!("{error:#}")));
        }
    }
}
