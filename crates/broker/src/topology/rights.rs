//! The least rights on the broker that each role needs, as RabbitMQ's three patterns.

use super::names::Names;

/// Who acts on the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A service of the platform that publishes events.
    Producer,
    /// `hooklane ingest`.
    Ingest,
    /// `hooklane dispatcher`.
    Dispatcher,
    /// `hooklane control`.
    Control,
    /// `hooklane dead`, `faults`, `status`, `check`.
    Operator,
    /// Whoever declares the topology.
    Declarer,
}

impl Actor {
    /// All of them.
    pub const ALL: [Actor; 6] = [
        Actor::Producer,
        Actor::Ingest,
        Actor::Dispatcher,
        Actor::Control,
        Actor::Operator,
        Actor::Declarer,
    ];

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Actor::Producer => "producer",
            Actor::Ingest => "ingest",
            Actor::Dispatcher => "dispatcher",
            Actor::Control => "control",
            Actor::Operator => "operator",
            Actor::Declarer => "declarer",
        }
    }
}

/// What `rabbitmqctl set_permissions` takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Names that may be declared and deleted.
    pub configure: String,
    /// Names that may be published to, and queues that may be bound.
    pub write: String,
    /// Names that may be consumed, and exchanges that may be bound from.
    pub read: String,
}

const NOTHING: &str = "^$";

impl Rights {
    /// The least that an actor needs when the topology is there. Only the declarer can make it.
    pub fn least(names: &Names, actor: Actor) -> Rights {
        let pattern = |alternatives: &str| {
            let prefix = names.prefix().replace('.', "\\.");
            format!("^{prefix}\\.({alternatives})$")
        };
        match actor {
            Actor::Producer => Rights {
                configure: NOTHING.into(),
                write: pattern("events|ordered"),
                read: NOTHING.into(),
            },
            // To `control` only to notice the broker's alarms, which are told to those who publish.
            Actor::Ingest => Rights {
                configure: NOTHING.into(),
                write: pattern("ingest|records|control"),
                read: NOTHING.into(),
            },
            // Its own listening queue at `control` is declared, bound and consumed by each process. `dead` and `faults`, and the
            // queues in the operator's list of what it may write: from RabbitMQ 4.2.6 on, looking at a queue's depth needs some
            // right on it, and this is the one that takes no message out.
            Actor::Dispatcher => Rights {
                configure: pattern("control\\..+"),
                write: pattern(
                    "internal|records|contents|deaths|control|control\\..+|delay\\.[0-9]+|dead|faults",
                ),
                read: pattern("events|ordered|deliveries|suspects|control|control\\..+"),
            },
            // Events that are sent as an example go to `ingest`, what is sent again and what cannot be recorded to `internal`.
            Actor::Control => Rights {
                configure: pattern("control\\..+|(dead|faults)\\.lock"),
                write: pattern(
                    "events|ordered|ingest|internal|records|contents|deaths|control|control\\..+|deliveries|suspects|delay\\.[0-9]+",
                ),
                read: pattern(
                    "contents|records|deaths|control|control\\..+|(dead|faults)(\\.holder|\\.lock)?",
                ),
            },
            // Replays go to `internal` or `ingest`; raw faults go back to where they were published.
            Actor::Operator => Rights {
                configure: pattern("control\\..+|(dead|faults)\\.lock"),
                write: pattern(
                    "events|ordered|ingest|internal|records|contents|deaths|control|control\\..+|deliveries|suspects|delay\\.[0-9]+",
                ),
                read: pattern("control|control\\..+|(dead|faults)(\\.holder|\\.lock)?"),
            },
            Actor::Declarer => Rights {
                configure: pattern(".+"),
                write: pattern(".+"),
                read: pattern(".+"),
            },
        }
    }
}
