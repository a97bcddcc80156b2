//! The form that `hooklane topology` prints.

use std::fmt;

use super::names::Names;
use super::rights::{Actor, Rights};
use super::{Arguments, Topology};

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Exchanges (all durable)")?;
        for exchange in &self.exchanges {
            writeln!(
                f,
                "  {}  {}{}",
                exchange.name,
                exchange.kind.name(),
                arguments(&exchange.arguments)
            )?;
        }
        writeln!(f, "\nQueues (all durable)")?;
        for queue in &self.queues {
            writeln!(f, "  {} {}", queue.name, arguments(&queue.arguments))?;
        }
        writeln!(f, "\nBindings (exchange -> queue, key)")?;
        for binding in &self.bindings {
            writeln!(
                f,
                "  {} -> {}  {:?}",
                binding.exchange, binding.queue, binding.key
            )?;
        }
        writeln!(
            f,
            "\nMade by processes while they run (exclusive queues, gone with them)"
        )?;
        writeln!(
            f,
            "  {}  bound to {}",
            self.names.listener("<id>"),
            self.names.exchange(super::Exchange::Control)
        )?;
        for shelf in [crate::port::Queue::Dead, crate::port::Queue::Faults] {
            writeln!(f, "  {}  lock of the shelf", self.names.lock(shelf))?;
        }
        rights(f, &self.names)
    }
}

fn arguments(arguments: &Arguments) -> String {
    arguments
        .iter()
        .map(|(name, value)| format!(" {name}={value}"))
        .collect()
}

fn rights(f: &mut fmt::Formatter<'_>, names: &Names) -> fmt::Result {
    writeln!(
        f,
        "\nLeast rights per role (rabbitmqctl set_permissions -p VHOST USER CONFIGURE WRITE READ)"
    )?;
    for actor in Actor::ALL {
        let Rights {
            configure,
            write,
            read,
        } = Rights::least(names, actor);
        writeln!(f, "  {:<11} '{configure}' '{write}' '{read}'", actor.name())?;
    }
    Ok(())
}
