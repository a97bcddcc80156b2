//! How the installation stands: queues, retries that wait, endpoints as the dispatchers see them.

use std::collections::BTreeMap;
use std::time::Duration;

use hooklane_broker::{Broker, BrokerError, Consumption, Depth, Destination, Outgoing, Queue};
use hooklane_policy::ladder::LEVELS_MS;
use hooklane_types::UnixMillis;
use hooklane_types::control::{
    Control, ControlMessage, EndpointCondition, EndpointStatus, RecordsDropped, StatusReply,
};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use crate::error::ControlError;
use crate::present;

/// How long dispatchers have to answer.
pub const REPLY_TIMEOUT: Duration = Duration::from_millis(1_500);
/// The question is repeated until it comes back to us: only then do we hear the answers.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// Most parts of answers that are kept: 500 endpoints each.
const PARTS_MAX: usize = 4_096;

/// Upper bounds by which waiting retries are summed, and their names.
const DUE_WITHIN: [(u64, &str); 6] = [
    (1_000, "1 s"),
    (10_000, "10 s"),
    (60_000, "1 min"),
    (600_000, "10 min"),
    (3_600_000, "1 h"),
    (86_400_000, "1 d"),
];

/// Everything that `hooklane status` shows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// The work queues and the shelves.
    pub queues: Vec<QueueStatus>,
    /// Retries that wait, by when they are due at the latest. A level's messages are counted by the level's whole time.
    pub retries: Vec<Due>,
    /// Dispatchers that answered.
    pub dispatchers: Vec<Dispatcher>,
    /// Consumers of queue `events`: how many dispatchers there are.
    pub dispatchers_expected: u64,
    /// Endpoints that the dispatchers have had to do with.
    pub endpoints: Vec<EndpointSummary>,
    /// What processes had to drop of the history, as the dispatchers heard it.
    pub records_dropped: Vec<Dropped>,
}

/// One queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueueStatus {
    /// Its name behind the prefix.
    pub name: &'static str,
    /// Messages ready.
    pub messages: u64,
    /// Consumers.
    pub consumers: u64,
}

/// Retries that are due within a time and not within the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Due {
    /// The time.
    pub within: &'static str,
    /// How many.
    pub messages: u64,
}

/// One dispatcher that answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dispatcher {
    /// Its name.
    pub pod: String,
    /// Since when it runs.
    pub since: String,
}

/// What one process had to drop of the history, because the queues into it were full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// Its name.
    pub pod: String,
    /// Since when it runs, and counts.
    pub since: String,
    /// Contents of events.
    pub contents: u64,
    /// What became of events.
    pub records: u64,
    /// When it last dropped one.
    pub last_at: String,
}

/// One endpoint, over all dispatchers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndpointSummary {
    /// Which.
    pub id: String,
    /// The gravest of what the dispatchers say.
    pub state: EndpointCondition,
    /// Attempts in flight, in all.
    pub in_flight: u64,
    /// The last outcome anywhere.
    pub last_outcome: Option<String>,
    /// When that was.
    #[serde(serialize_with = "present::time_field")]
    pub last_at: Option<UnixMillis>,
}

/// Asks broker and dispatchers. `id` tells this question from others'.
///
/// # Errors
/// When the broker does not answer. Dispatchers that do not are missed, and no error.
pub async fn gather(
    broker: &dyn Broker,
    id: &str,
    publish_timeout: Duration,
) -> Result<Status, ControlError> {
    let mut queues = Vec::with_capacity(Queue::ALL.len());
    for queue in Queue::ALL {
        let Depth { messages, consumers } = broker.depth(queue).await?;
        queues.push(QueueStatus {
            name: queue.name(),
            messages,
            consumers,
        });
    }
    let retries = due(&broker.delay_depths().await?);
    let expected = queues
        .iter()
        .find(|queue| queue.name == Queue::Events.name())
        .map_or(0, |queue| queue.consumers);
    let replies = match expected {
        0 => Replies::default(),
        _ => ask(broker, id, expected, publish_timeout).await?,
    };
    Ok(Status {
        queues,
        retries,
        dispatchers: replies.dispatchers(),
        dispatchers_expected: expected,
        endpoints: replies.endpoints(),
        records_dropped: replies.dropped(),
    })
}

fn due(levels: &[Depth]) -> Vec<Due> {
    let mut from_ms = 0;
    let sums = DUE_WITHIN.map(|(within_ms, within)| {
        let in_range = LEVELS_MS
            .iter()
            .zip(levels)
            .filter(|(level, _)| (from_ms + 1..=within_ms).contains(*level));
        let messages = in_range.map(|(_, depth)| depth.messages).sum();
        from_ms = within_ms;
        Due { within, messages }
    });
    sums.into()
}

async fn ask(
    broker: &dyn Broker,
    id: &str,
    expected: u64,
    publish_timeout: Duration,
) -> Result<Replies, ControlError> {
    let mut consumption = broker.listen();
    let mut replies = Replies::default();
    let mut deadline = Instant::now() + publish_timeout;
    let mut is_heard = false;
    let mut ask_again = Instant::now();
    while Instant::now() < deadline && replies.complete() < expected {
        if !is_heard && Instant::now() >= ask_again {
            publish(broker, id, publish_timeout).await?;
            ask_again = Instant::now() + ASK_AGAIN;
        }
        let until = if is_heard {
            deadline
        } else {
            ask_again.min(deadline)
        };
        let Ok(message) = timeout_at(until, next(consumption.as_mut())).await else {
            continue;
        };
        match message? {
            ControlMessage::StatusRequest { id: asked } if asked == id && !is_heard => {
                is_heard = true;
                deadline = Instant::now() + REPLY_TIMEOUT;
                // Answers to a question that went out before we could hear may be lost: this one is heard.
                publish(broker, id, publish_timeout).await?;
            }
            ControlMessage::StatusReply(reply) if reply.id == id => replies.add(reply),
            _ => {}
        }
    }
    Ok(replies)
}

async fn publish(broker: &dyn Broker, id: &str, within: Duration) -> Result<(), ControlError> {
    let request = Control::new(ControlMessage::StatusRequest { id: id.to_owned() });
    let body = serde_json::to_vec(&request).map_err(std::io::Error::from)?;
    Ok(broker
        .publish(Destination::Control, Outgoing::internal(body.into()), within)
        .await?)
}

async fn next(consumption: &mut dyn Consumption) -> Result<ControlMessage, BrokerError> {
    let incoming = consumption.next().await.ok_or(BrokerError::ShutDown)?;
    let message = serde_json::from_slice::<Control>(&incoming.message.body);
    // Soft state: an ack that does not arrive brings the message again, and that harms nothing.
    let _ = incoming.ack.ack().await;
    Ok(message.map_or(ControlMessage::Unknown, |control| control.message))
}

/// Answers, in parts, by pod; a part that comes twice counts once.
#[derive(Default)]
struct Replies {
    parts: BTreeMap<(String, u32), StatusReply>,
}

impl Replies {
    fn add(&mut self, reply: StatusReply) {
        if self.parts.len() < PARTS_MAX {
            self.parts.insert((reply.pod.clone(), reply.part), reply);
        }
    }

    /// Dispatchers of which every part is there.
    fn complete(&self) -> u64 {
        let mut missing: BTreeMap<&str, i64> = BTreeMap::new();
        for reply in self.parts.values() {
            *missing
                .entry(&reply.pod)
                .or_insert_with(|| i64::from(reply.parts)) -= 1;
        }
        missing.values().filter(|missing| **missing <= 0).count() as u64
    }

    fn dispatchers(&self) -> Vec<Dispatcher> {
        let pods: BTreeMap<_, _> = self
            .parts
            .values()
            .map(|reply| (&reply.pod, reply.since))
            .collect();
        pods.into_iter()
            .map(|(pod, since)| Dispatcher {
                pod: pod.clone(),
                since: present::time(since),
            })
            .collect()
    }

    /// Each process once, by the newest that was heard.
    fn dropped(&self) -> Vec<Dropped> {
        let mut newest: BTreeMap<&str, &RecordsDropped> = BTreeMap::new();
        for told in self.parts.values().flat_map(|reply| &reply.dropped) {
            let known = newest.entry(&told.pod).or_insert(told);
            if (told.since, told.last_at) > (known.since, known.last_at) {
                *known = told;
            }
        }
        let shown = newest.into_values().map(|told| Dropped {
            pod: told.pod.clone(),
            since: present::time(told.since),
            contents: told.contents,
            records: told.records,
            last_at: present::time(told.last_at),
        });
        shown.collect()
    }

    fn endpoints(&self) -> Vec<EndpointSummary> {
        let mut merged: BTreeMap<&str, EndpointSummary> = BTreeMap::new();
        for endpoint in self.parts.values().flat_map(|reply| &reply.endpoints) {
            let summary = merged
                .entry(endpoint.id.as_str())
                .or_insert_with(|| EndpointSummary {
                    id: endpoint.id.to_string(),
                    state: endpoint.state,
                    in_flight: 0,
                    last_outcome: None,
                    last_at: None,
                });
            merge(summary, endpoint);
        }
        merged.into_values().collect()
    }
}

fn merge(summary: &mut EndpointSummary, endpoint: &EndpointStatus) {
    if gravity(endpoint.state) > gravity(summary.state) {
        summary.state = endpoint.state;
    }
    summary.in_flight += u64::from(endpoint.in_flight);
    if endpoint.last_at > summary.last_at {
        summary.last_at = endpoint.last_at;
        summary.last_outcome.clone_from(&endpoint.last_outcome);
    }
}

fn gravity(state: EndpointCondition) -> u8 {
    match state {
        EndpointCondition::Ok => 0,
        EndpointCondition::Paused => 1,
        EndpointCondition::Sick => 2,
        EndpointCondition::Gone => 3,
        EndpointCondition::Disabled => 4,
    }
}

#[cfg(test)]
mod tests {
    use hooklane_types::EndpointId;

    use super::*;

    #[test]
    fn every_level_is_counted_once_by_its_whole_time() {
        // Goal: no level falls between two sums. Method: one message on each.
        let levels = vec![
            Depth {
                messages: 1,
                consumers: 0
            };
            LEVELS_MS.len()
        ];
        let sums = due(&levels);
        assert_eq!(
            sums.iter().map(|due| due.messages).sum::<u64>(),
            LEVELS_MS.len() as u64
        );
        assert_eq!(
            sums[0],
            Due {
                within: "1 s",
                messages: 4
            }
        );
    }

    fn reply(pod: &str, (part, parts): (u32, u32), state: EndpointCondition, last_at: i64) -> StatusReply {
        StatusReply {
            id: "1".to_owned(),
            pod: pod.to_owned(),
            since: UnixMillis(0),
            part,
            parts,
            endpoints: vec![EndpointStatus {
                id: EndpointId::parse(&format!("ep_{part}")).unwrap(),
                state,
                in_flight: 2,
                last_outcome: Some(format!("{last_at}")),
                last_at: Some(UnixMillis(last_at)),
            }],
            dropped: vec![RecordsDropped {
                pod: "ingest".to_owned(),
                since: UnixMillis(0),
                contents: last_at as u64,
                records: 1,
                last_at: UnixMillis(last_at),
            }],
        }
    }

    #[test]
    fn answers_are_merged_by_endpoint_and_repeats_count_once() {
        // Goal: the gravest state, the latest outcome, attempts summed over pods; a part that comes twice changes nothing.
        let mut replies = Replies::default();
        replies.add(reply("a", (0, 1), EndpointCondition::Sick, 5));
        replies.add(reply("b", (0, 2), EndpointCondition::Ok, 9));
        replies.add(reply("b", (0, 2), EndpointCondition::Ok, 9));
        assert_eq!(replies.complete(), 1);
        replies.add(reply("b", (1, 2), EndpointCondition::Ok, 1));
        assert_eq!(replies.complete(), 2);
        let endpoints = replies.endpoints();
        assert_eq!(endpoints.len(), 2);
        assert_eq!(endpoints[0].state, EndpointCondition::Sick);
        assert_eq!(
            (endpoints[0].in_flight, endpoints[0].last_outcome.as_deref()),
            (4, Some("9"))
        );
        let dropped = replies.dropped();
        assert_eq!((dropped.len(), dropped[0].contents), (1, 9));
    }
}
