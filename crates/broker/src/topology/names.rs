//! Names behind the prefix.

use hooklane_policy::ladder::LEVELS_MS;

use crate::port::Queue;

/// Longest prefix, in bytes: with the longest name behind it a name stays under AMQP's 255.
pub const PREFIX_BYTES_MAX: usize = 64;

/// Why a prefix can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "prefix {0:?} is not usable: 1 to {PREFIX_BYTES_MAX} letters, digits, '-', '_' or '.', and not beginning with \"amq.\""
)]
pub struct NamesError(String);

/// The exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// Where producers publish.
    Events,
    /// Where producers publish what must stay in order.
    Ordered,
    /// Where only Hooklane's ingest publishes.
    Ingest,
    /// Between Hooklane's processes.
    Internal,
    /// Into the history.
    Records,
    /// Where the delay ladder ends.
    Lanes,
    /// Soft state.
    Control,
    /// Where everything ends that finds no queue.
    Faults,
    /// The way into a level of the delay ladder, by its index.
    Delay(usize),
}

/// The names of one installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    prefix: String,
}

impl Names {
    /// Names behind this prefix.
    ///
    /// # Errors
    /// When the prefix is empty, too long, or has characters that need care in patterns or URLs.
    pub fn new(prefix: &str) -> Result<Names, NamesError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let valid = !prefix.is_empty()
            && prefix.len() <= PREFIX_BYTES_MAX
            && prefix.bytes().all(allowed)
            && !prefix.starts_with("amq.");
        if valid {
            Ok(Names {
                prefix: prefix.to_owned(),
            })
        } else {
            Err(NamesError(prefix.to_owned()))
        }
    }

    /// The prefix.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// An exchange's full name.
    pub fn exchange(&self, exchange: Exchange) -> String {
        match exchange {
            Exchange::Events => self.of("events"),
            Exchange::Ordered => self.of("ordered"),
            Exchange::Ingest => self.of("ingest"),
            Exchange::Internal => self.of("internal"),
            Exchange::Records => self.of("records"),
            Exchange::Lanes => self.of("lanes"),
            Exchange::Control => self.of("control"),
            Exchange::Faults => self.of("faults"),
            Exchange::Delay(level) => self.delay(level),
        }
    }

    /// A queue's full name.
    pub fn queue(&self, queue: Queue) -> String {
        self.of(queue.name())
    }

    /// The full name of a level's queue, and of the exchange that leads to it. A level beyond the last is the last.
    pub fn delay(&self, level: usize) -> String {
        let ttl_ms = LEVELS_MS[level.min(LEVELS_MS.len() - 1)];
        self.of(&format!("delay.{ttl_ms}"))
    }

    /// The exclusive queue that is a shelf's lock: whoever declared it reads the shelf.
    pub fn lock(&self, shelf: Queue) -> String {
        self.of(&format!("{}.lock", shelf.name()))
    }

    /// The queue whose only message says who holds a shelf's lock.
    pub fn holder(&self, shelf: Queue) -> String {
        self.of(&Names::holder_key(shelf))
    }

    /// The key by which exchange `internal` leads to a shelf's holder queue.
    pub fn holder_key(shelf: Queue) -> String {
        format!("{}.holder", shelf.name())
    }

    /// A queue of one process's own at exchange `control`.
    pub fn listener(&self, id: &str) -> String {
        self.of(&format!("control.{id}"))
    }

    fn of(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_the_prefix() {
        // Goal: what outsiders see is exactly this.
        let names = Names::new("hooklane").expect("valid");
        assert_eq!(names.exchange(Exchange::Events), "hooklane.events");
        assert_eq!(names.queue(Queue::Deliveries), "hooklane.deliveries");
        assert_eq!(names.delay(0), "hooklane.delay.100");
        assert_eq!(names.exchange(Exchange::Delay(29)), "hooklane.delay.86400000");
        assert_eq!(names.lock(Queue::Dead), "hooklane.dead.lock");
        assert_eq!(names.holder(Queue::Faults), "hooklane.faults.holder");
    }

    #[test]
    fn prefixes_that_would_break_patterns_or_names_are_refused() {
        // Goal: a prefix is used in regular expressions of rights and in names of at most 255 bytes.
        for bad in ["", "a b", "a*", "amq.x", "ü", &"x".repeat(65)] {
            assert!(Names::new(bad).is_err(), "{bad:?}");
        }
        for good in ["hooklane", "a.b", "A-1_x"] {
            assert!(Names::new(good).is_ok(), "{good:?}");
        }
    }
}
