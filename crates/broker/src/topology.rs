//! What Hooklane has on the broker, as plain data: exchanges, queues with their arguments, bindings, and the least rights
//! that each role needs. Names are `<prefix>.<name>`; a queue's arguments never change in place.

mod names;
mod print;
mod rights;

pub use names::{Exchange, Names, NamesError};
pub use rights::{Actor, Rights};

use hooklane_policy::ladder::LEVELS_MS;

use crate::port::Queue;

/// No queue gives up on a message by itself: small limits convict innocents, and -1 drops messages on RabbitMQ 3.10.
pub const DELIVERY_LIMIT: i64 = 1_000_000;
/// Nor does a shelf, which is read again and again: RabbitMQ before 4.3 counts each reading as a delivery of every message, and behind a shelf
/// there is none. At one reading in a millisecond this lasts for thirty years.
pub const SHELF_DELIVERY_LIMIT: i64 = 1_000_000_000_000;
/// Most bytes that wait in `events` and in `ordered`, unless set otherwise: 1 GiB.
pub const EVENTS_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Most bytes that wait in `contents` and in `records`, unless set otherwise: 1 GiB.
pub const RECORDS_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// The routing key by which messages leave the ladder, and reach queue `deliveries`.
pub const DELIVERIES_KEY: &str = "deliveries";

/// How an exchange routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeKind {
    /// By equal key.
    Direct,
    /// To all.
    Fanout,
    /// By pattern.
    Topic,
}

impl ExchangeKind {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            ExchangeKind::Direct => "direct",
            ExchangeKind::Fanout => "fanout",
            ExchangeKind::Topic => "topic",
        }
    }
}

/// The value of a queue's or exchange's argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    /// A string.
    Text(String),
    /// A number.
    Number(i64),
}

impl std::fmt::Display for Argument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Argument::Text(text) => f.write_str(text),
            Argument::Number(number) => write!(f, "{number}"),
        }
    }
}

/// Arguments by name, in the order in which they are shown.
pub type Arguments = Vec<(&'static str, Argument)>;

/// A durable exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangeSpec {
    /// Full name.
    pub name: String,
    /// How it routes.
    pub kind: ExchangeKind,
    /// Arguments.
    pub arguments: Arguments,
}

/// A durable queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSpec {
    /// Full name.
    pub name: String,
    /// Arguments; `x-queue-type` is always there.
    pub arguments: Arguments,
}

/// A queue bound to an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The exchange's full name.
    pub exchange: String,
    /// The queue's full name.
    pub queue: String,
    /// The routing key or pattern.
    pub key: String,
}

/// Most bytes that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// In `events`, and as many in `ordered`.
    pub events_bytes_max: u64,
    /// In `contents`, and as many in `records`.
    pub records_bytes_max: u64,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            events_bytes_max: EVENTS_BYTES_MAX,
            records_bytes_max: RECORDS_BYTES_MAX,
        }
    }
}

/// Everything that is declared, in an order in which it can be: what others name comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// The names behind it.
    pub names: Names,
    /// Exchanges.
    pub exchanges: Vec<ExchangeSpec>,
    /// Queues.
    pub queues: Vec<QueueSpec>,
    /// Bindings.
    pub bindings: Vec<Binding>,
}

impl Topology {
    /// The topology of one installation.
    pub fn new(names: Names, bounds: Bounds) -> Topology {
        Topology {
            exchanges: exchanges(&names),
            queues: queues(&names, bounds),
            bindings: bindings(&names),
            names,
        }
    }
}

fn exchanges(names: &Names) -> Vec<ExchangeSpec> {
    use Exchange::{Control, Delay, Events, Faults, Ingest, Internal, Lanes, Ordered, Records};
    let spec = |exchange, kind, arguments| ExchangeSpec {
        name: names.exchange(exchange),
        kind,
        arguments,
    };
    // `mandatory` misreports with pipelined confirms, so nothing may be unroutable: what finds no queue ends on a shelf.
    let to_faults = || vec![("alternate-exchange", Argument::Text(names.exchange(Faults)))];
    let mut exchanges = vec![
        spec(Faults, ExchangeKind::Fanout, vec![]),
        // Soft state: a message that nobody listens to is of no use to anybody.
        spec(Control, ExchangeKind::Fanout, vec![]),
        spec(Events, ExchangeKind::Topic, to_faults()),
        spec(Ordered, ExchangeKind::Topic, to_faults()),
        spec(Ingest, ExchangeKind::Direct, to_faults()),
        spec(Internal, ExchangeKind::Direct, to_faults()),
        spec(Records, ExchangeKind::Direct, to_faults()),
        spec(Lanes, ExchangeKind::Direct, to_faults()),
    ];
    exchanges.extend((0..LEVELS_MS.len()).map(|level| spec(Delay(level), ExchangeKind::Fanout, to_faults())));
    exchanges
}

fn queues(names: &Names, bounds: Bounds) -> Vec<QueueSpec> {
    let limited = |name: String, limit, more: Arguments| {
        let mut arguments: Arguments = vec![
            ("x-queue-type", Argument::Text("quorum".to_owned())),
            ("x-delivery-limit", Argument::Number(limit)),
        ];
        arguments.extend(more);
        QueueSpec { name, arguments }
    };
    let quorum = |name, more| limited(name, DELIVERY_LIMIT, more);
    let shelf = |queue| limited(names.queue(queue), SHELF_DELIVERY_LIMIT, vec![]);
    // At-least-once falls back to at-most-once without `reject-publish`, silently.
    let dead_letters_to = |exchange| {
        vec![
            ("x-overflow", Argument::Text("reject-publish".to_owned())),
            ("x-dead-letter-exchange", Argument::Text(names.exchange(exchange))),
            (
                "x-dead-letter-strategy",
                Argument::Text("at-least-once".to_owned()),
            ),
        ]
    };
    let at_most = |bytes_max: u64| {
        let bytes_max = i64::try_from(bytes_max).unwrap_or(i64::MAX);
        ("x-max-length-bytes", Argument::Number(bytes_max))
    };
    let public = |queue| {
        let mut arguments = vec![at_most(bounds.events_bytes_max)];
        arguments.extend(dead_letters_to(Exchange::Faults));
        quorum(names.queue(queue), arguments)
    };
    // Refused at the bound, not dropped: whoever writes counts what is lost.
    let history = |queue| {
        let arguments = vec![
            at_most(bounds.records_bytes_max),
            ("x-overflow", Argument::Text("reject-publish".to_owned())),
        ];
        quorum(names.queue(queue), arguments)
    };
    let mut queues = vec![
        shelf(Queue::Faults),
        shelf(Queue::Dead),
        quorum(names.queue(Queue::Deliveries), vec![]),
        quorum(names.queue(Queue::Suspects), vec![]),
        public(Queue::Events),
        public(Queue::Ordered),
        history(Queue::Contents),
        history(Queue::Records),
        quorum(names.queue(Queue::Deaths), vec![]),
    ];
    for (level, ttl_ms) in LEVELS_MS.iter().enumerate() {
        let ttl_ms = i64::try_from(*ttl_ms).unwrap_or(i64::MAX);
        let mut arguments = vec![("x-message-ttl", Argument::Number(ttl_ms))];
        arguments.extend(dead_letters_to(Exchange::Lanes));
        queues.push(quorum(names.delay(level), arguments));
    }
    // Quorum queues as well: a classic one is gone with its node, and nothing could be declared until that is back.
    for shelf in [Queue::Dead, Queue::Faults] {
        let one = vec![("x-max-length", Argument::Number(1))];
        queues.push(quorum(names.holder(shelf), one));
    }
    queues
}

fn bindings(names: &Names) -> Vec<Binding> {
    use Exchange::{Delay, Events, Faults, Ingest, Internal, Lanes, Ordered, Records};
    let bind = |exchange, queue: String, key: &str| Binding {
        exchange: names.exchange(exchange),
        queue,
        key: key.to_owned(),
    };
    let mut bindings = vec![
        bind(Faults, names.queue(Queue::Faults), ""),
        bind(Events, names.queue(Queue::Events), "#"),
        bind(Ingest, names.queue(Queue::Events), Queue::Events.name()),
        bind(Ordered, names.queue(Queue::Ordered), "#"),
        bind(Lanes, names.queue(Queue::Deliveries), DELIVERIES_KEY),
    ];
    for queue in [Queue::Deliveries, Queue::Suspects, Queue::Dead, Queue::Faults] {
        bindings.push(bind(Internal, names.queue(queue), queue.name()));
    }
    for queue in [Queue::Contents, Queue::Records, Queue::Deaths] {
        bindings.push(bind(Records, names.queue(queue), queue.name()));
    }
    for shelf in [Queue::Dead, Queue::Faults] {
        bindings.push(bind(Internal, names.holder(shelf), &Names::holder_key(shelf)));
    }
    bindings.extend((0..LEVELS_MS.len()).map(|level| bind(Delay(level), names.delay(level), "")));
    bindings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology() -> Topology {
        Topology::new(Names::new("acme").expect("a valid prefix"), Bounds::default())
    }

    fn argument<'a>(arguments: &'a Arguments, name: &str) -> Option<&'a Argument> {
        arguments
            .iter()
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value)
    }

    #[test]
    fn nothing_is_unroutable_but_soft_state() {
        // Goal: invariant 1; every exchange but control and faults has the alternate exchange, and faults has its queue.
        for exchange in &topology().exchanges {
            let alternate = argument(&exchange.arguments, "alternate-exchange");
            match exchange.name.as_str() {
                "acme.control" | "acme.faults" => assert_eq!(alternate, None),
                name => assert_eq!(alternate, Some(&Argument::Text("acme.faults".into())), "{name}"),
            }
        }
        assert!(
            topology()
                .bindings
                .iter()
                .any(|bound| bound.exchange == "acme.faults" && bound.queue == "acme.faults")
        );
    }

    #[test]
    fn only_what_comes_in_and_history_have_a_length_limit() {
        // Goal: a full target of the ladder stops everybody's retries, so there must be none; history yields to deliveries.
        let limits = ["acme.events", "acme.ordered", "acme.contents", "acme.records"];
        for queue in &topology().queues {
            let limited = argument(&queue.arguments, "x-max-length-bytes").is_some();
            assert_eq!(limited, limits.contains(&queue.name.as_str()), "{}", queue.name);
        }
    }

    #[test]
    fn dead_lettering_is_at_least_once_wherever_it_is() {
        // Goal: without reject-publish RabbitMQ falls back to at-most-once and only logs it.
        for queue in &topology().queues {
            if argument(&queue.arguments, "x-dead-letter-exchange").is_some() {
                assert_eq!(
                    argument(&queue.arguments, "x-dead-letter-strategy"),
                    Some(&Argument::Text("at-least-once".into()))
                );
                assert_eq!(
                    argument(&queue.arguments, "x-overflow"),
                    Some(&Argument::Text("reject-publish".into()))
                );
                assert_eq!(argument(&queue.arguments, "x-dead-letter-routing-key"), None);
            }
        }
    }

    #[test]
    fn every_queue_is_replicated_and_has_the_high_delivery_limit() {
        // Goal: no queue depends on one node; and RabbitMQ 4 would drop messages after 20 deliveries by default.
        let topology = topology();
        let shelves = [Queue::Dead, Queue::Faults].map(|shelf| topology.names.queue(shelf));
        for queue in &topology.queues {
            let found = ["x-queue-type", "x-delivery-limit"].map(|name| argument(&queue.arguments, name));
            let limit = match shelves.contains(&queue.name) {
                true => 1_000_000_000_000,
                false => 1_000_000,
            };
            let wanted = [Argument::Text("quorum".into()), Argument::Number(limit)];
            assert_eq!(found, wanted.each_ref().map(Some), "{}", queue.name);
        }
    }

    #[test]
    fn bindings_name_only_what_is_declared() {
        // Goal: declaring in order must not end in 404.
        let topology = topology();
        for binding in &topology.bindings {
            assert!(
                topology
                    .exchanges
                    .iter()
                    .any(|exchange| exchange.name == binding.exchange),
                "{binding:?}"
            );
            assert!(
                topology.queues.iter().any(|queue| queue.name == binding.queue),
                "{binding:?}"
            );
        }
        assert_eq!(topology.queues.len(), 9 + LEVELS_MS.len() + 2);
    }
}
