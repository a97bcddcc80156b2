//! kill -9 at random moments: what was confirmed is there once, what was acked is gone, and deliveries are counted.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hooklane_broker::embedded::{EmbeddedBroker, EmbeddedSettings};
use hooklane_broker::{Broker, Destination, Queue, SharedBroker};
use hooklane_testkit::process::{Process, Spawn};
use rand::Rng;

use crate::suite::{PATIENCE, internal, next, options};

/// Set in the child: its data directory.
const DIRECTORY: &str = "EMBEDDED_CRASH_DIRECTORY";
/// Set in the child: what its ids begin with.
const ROUND: &str = "EMBEDDED_CRASH_ROUND";
const ROUNDS: usize = 8;
const PUBLISHERS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_at_random_moments_loses_nothing_and_doubles_nothing() -> Result<()> {
    // Method: this test starts itself as a child that publishes, consumes and says each thing that it was told; and kills it.
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return child(Path::new(&directory), &std::env::var(ROUND)?).await;
    }
    let directory = tempfile::tempdir()?;
    let mut killed_with_some_in_hand = 0;
    for round in 0..ROUNDS {
        let child = start(directory.path(), round)?;
        child.wait_for_line("acked ", PATIENCE).await?;
        let moment_ms = rand::rng().random_range(0..400);
        tokio::time::sleep(Duration::from_millis(moment_ms)).await;
        child.kill9().await?;
        let told = Told::read(&child);
        let found = drain(directory.path()).await?;
        told.compare(&found)
            .with_context(|| format!("round {round}, killed {moment_ms} ms after the first ack"))?;
        killed_with_some_in_hand += usize::from(!told.held.is_empty());
    }
    ensure!(killed_with_some_in_hand > 0, "no kill found anything in hand");
    Ok(())
}

fn start(directory: &Path, round: usize) -> Result<Process> {
    Spawn::program(std::env::current_exe()?)
        .args([
            "crash::kill_9_at_random_moments_loses_nothing_and_doubles_nothing",
            "--exact",
            "--nocapture",
        ])
        .env(DIRECTORY, directory)
        .env(ROUND, round.to_string())
        .start()
}

/// Publishes until it is killed; acks two in three, and keeps the others in hand.
async fn child(directory: &Path, round: &str) -> Result<()> {
    let broker: SharedBroker = EmbeddedBroker::open(EmbeddedSettings::new(directory))?.shared();
    // The test harness has begun a line.
    println!();
    for publisher in 0..PUBLISHERS {
        let (broker, round) = (broker.clone(), round.to_owned());
        tokio::spawn(async move {
            for number in 0_u64.. {
                let id = format!("{round}-{publisher}-{number}");
                let body = internal(id.clone());
                if broker
                    .publish(Destination::IngestedEvents, body, PATIENCE)
                    .await
                    .is_ok()
                {
                    println!("confirmed {id}.");
                }
            }
        });
    }
    let mut consumption = broker.consume(Queue::Events, options(u16::MAX));
    let mut held = Vec::new();
    for number in 0_u64.. {
        let incoming = next(&mut consumption).await?;
        let id = String::from_utf8(incoming.message.body.to_vec())?;
        if number % 3 == 0 {
            println!("held {id}.");
            held.push(incoming);
        } else {
            incoming.ack.ack().await?;
            println!("acked {id}.");
        }
    }
    Ok(())
}

#[derive(Default)]
struct Told {
    confirmed: HashSet<String>,
    acked: HashSet<String>,
    held: HashSet<String>,
}

impl Told {
    fn read(child: &Process) -> Told {
        let mut told = Told::default();
        for line in child.output().stdout().lines() {
            // A line that was cut off by the kill has no end.
            let Some((what, id)) = line.strip_suffix('.').and_then(|line| line.split_once(' ')) else {
                continue;
            };
            let set = match what {
                "confirmed" => &mut told.confirmed,
                "acked" => &mut told.acked,
                "held" => &mut told.held,
                _ => continue,
            };
            set.insert(id.to_owned());
        }
        told
    }

    fn compare(&self, found: &HashMap<String, Vec<u64>>) -> Result<()> {
        for (id, deliveries) in found {
            ensure!(deliveries.len() == 1, "{id} is there {} times", deliveries.len());
            ensure!(!self.acked.contains(id), "{id} was acked");
            ensure!(
                !self.held.contains(id) || deliveries[0] == 1,
                "{id} was in hand once, and counts {}",
                deliveries[0]
            );
        }
        // The child acks one at a time: of one it may have been killed before it could say so.
        let untold = self.confirmed.difference(&self.acked);
        let missing: Vec<_> = untold.filter(|id| !found.contains_key(*id)).collect();
        ensure!(missing.len() <= 1, "confirmed and gone: {missing:?}");
        ensure!(self.held.iter().all(|id| found.contains_key(id)));
        Ok(())
    }
}

/// Takes everything out; how often each was delivered before, each time it came.
async fn drain(directory: &Path) -> Result<HashMap<String, Vec<u64>>> {
    let broker = EmbeddedBroker::open(EmbeddedSettings::new(directory))?;
    let messages = broker.depth(Queue::Events).await?.messages;
    let mut consumption = broker.consume(Queue::Events, options(1_000));
    let mut found: HashMap<String, Vec<u64>> = HashMap::new();
    for _ in 0..messages {
        let incoming = next(&mut consumption).await?;
        let id = String::from_utf8(incoming.message.body.to_vec())?;
        found.entry(id).or_default().push(incoming.delivery_count);
        incoming.ack.ack().await?;
    }
    ensure!(
        tokio::time::timeout(Duration::from_millis(100), consumption.next())
            .await
            .is_err(),
        "there are more than the count says"
    );
    ensure!(broker.depth(Queue::Events).await?.messages == 0);
    Ok(found)
}
