//! Which messages of a shelf are meant.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hooklane_types::{ApplicationId, EndpointId, EventType, TypePattern, UnixMillis};

/// All conditions hold at once; one that is not set holds always.
#[derive(Clone, Debug)]
pub struct Filter<R> {
    /// The event's id or the letter's own (dead letters), or the fault's id.
    pub id: Option<String>,
    /// Whose events are meant at all.
    pub whose: Option<Whose>,
    /// Whose event it is.
    pub application: Option<ApplicationId>,
    /// Whom it was for.
    pub endpoint: Option<EndpointId>,
    /// The event's type, or a pattern over it.
    pub event_type: Option<TypePattern>,
    /// Why it lies here.
    pub reason: Option<R>,
    /// It has lain here for at least as long.
    pub older_than: Option<Duration>,
    /// It has lain here for less.
    pub newer_than: Option<Duration>,
}

impl<R> Default for Filter<R> {
    fn default() -> Filter<R> {
        Filter {
            id: None,
            whose: None,
            application: None,
            endpoint: None,
            event_type: None,
            reason: None,
            older_than: None,
            newer_than: None,
        }
    }
}

type Test = dyn Fn(Option<&str>) -> bool + Send + Sync;

/// Says of an application, as the message names it, whether it is meant.
#[derive(Clone)]
pub struct Whose(Arc<Test>);

impl Whose {
    /// By this test; it gets none where the message names no application.
    pub fn new(test: impl Fn(Option<&str>) -> bool + Send + Sync + 'static) -> Whose {
        Whose(Arc::new(test))
    }
}

impl fmt::Debug for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Whose")
    }
}

/// What a filter looks at. What a message does not say meets no condition on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts<R> {
    /// What it is called in commands.
    pub id: String,
    /// What it alone is called, where several share the name above: an event may be dead at several endpoints.
    pub own_id: Option<String>,
    /// Whose event it is, as the message says it.
    pub application: Option<String>,
    /// Whom it was for.
    pub endpoint: Option<EndpointId>,
    /// The event's type.
    pub event_type: Option<EventType>,
    /// Why it lies here; none where nobody can tell.
    pub reason: Option<R>,
    /// Since when.
    pub at: Option<UnixMillis>,
}

impl<R: PartialEq> Filter<R> {
    /// Whether every message is meant.
    pub fn is_empty(&self) -> bool {
        self.id.is_none()
            && self.whose.is_none()
            && self.application.is_none()
            && self.endpoint.is_none()
            && self.event_type.is_none()
            && self.reason.is_none()
            && self.older_than.is_none()
            && self.newer_than.is_none()
    }

    /// Whether this message is meant.
    pub fn matches(&self, facts: &Facts<R>, now: UnixMillis) -> bool {
        let age = facts.at.map(|at| now.since(at));
        holds(&self.id, |id| {
            *id == facts.id || facts.own_id.as_ref() == Some(id)
        }) && holds(&self.whose, |Whose(test)| test(facts.application.as_deref()))
            && holds(&self.application, |wanted| {
                facts.application.as_deref() == Some(wanted.as_str())
            })
            && holds(&self.endpoint, |wanted| facts.endpoint.as_ref() == Some(wanted))
            && holds(&self.event_type, |pattern| {
                facts
                    .event_type
                    .as_ref()
                    .is_some_and(|found| pattern.matches(found))
            })
            && holds(&self.reason, |wanted| facts.reason.as_ref() == Some(wanted))
            && holds(&self.older_than, |least| age.is_some_and(|age| age >= *least))
            && holds(&self.newer_than, |most| age.is_some_and(|age| age < *most))
    }
}

fn holds<T>(condition: &Option<T>, test: impl FnOnce(&T) -> bool) -> bool {
    condition.as_ref().is_none_or(test)
}

#[cfg(test)]
mod tests {
    use hooklane_types::DeadReason;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

    fn facts() -> Facts<DeadReason> {
        Facts {
            id: "msg_1".to_owned(),
            own_id: Some("dead_1".to_owned()),
            application: Some("acme".to_owned()),
            endpoint: EndpointId::parse("ep_1").ok(),
            event_type: EventType::parse("invoice.paid").ok(),
            reason: Some(DeadReason::Gone),
            at: Some(UnixMillis(NOW.0 - 60_000)),
        }
    }

    fn unknown() -> Facts<DeadReason> {
        Facts {
            id: "x".to_owned(),
            own_id: None,
            application: None,
            endpoint: None,
            event_type: None,
            reason: None,
            at: None,
        }
    }

    #[test]
    fn each_condition_alone_lets_its_own_through_and_holds_others_back() {
        // Goal: a filter that ignores one of its fields would purge what it must not. Method: one matching and one other value each.
        type Set = Box<dyn Fn(&mut Filter<DeadReason>, bool)>;
        let minute = Duration::from_secs(60);
        let second = Duration::from_secs(1);
        let pick = |own: bool, yes: &str, no: &str| if own { yes.to_owned() } else { no.to_owned() };
        let conditions: Vec<(&str, Set)> = vec![
            (
                "id",
                Box::new(move |f, own| f.id = Some(pick(own, "msg_1", "msg_2"))),
            ),
            (
                "own id",
                Box::new(move |f, own| f.id = Some(pick(own, "dead_1", "dead_2"))),
            ),
            (
                "whose",
                Box::new(move |f, own| {
                    let wanted = pick(own, "acme", "acm");
                    f.whose = Some(Whose::new(move |found| found == Some(wanted.as_str())));
                }),
            ),
            (
                "application",
                Box::new(move |f, own| f.application = ApplicationId::parse(&pick(own, "acme", "acm")).ok()),
            ),
            (
                "endpoint",
                Box::new(move |f, own| f.endpoint = EndpointId::parse(&pick(own, "ep_1", "ep_2")).ok()),
            ),
            (
                "type",
                Box::new(move |f, own| {
                    f.event_type = TypePattern::parse(&pick(own, "invoice.*", "order.*")).ok()
                }),
            ),
            (
                "reason",
                Box::new(|f, own| {
                    f.reason = Some(if own {
                        DeadReason::Gone
                    } else {
                        DeadReason::Expired
                    })
                }),
            ),
            (
                "older",
                Box::new(move |f, own| f.older_than = Some(if own { minute } else { minute + second })),
            ),
            (
                "newer",
                Box::new(move |f, own| f.newer_than = Some(if own { minute + second } else { minute })),
            ),
        ];
        assert!(Filter::default().matches(&facts(), NOW) && Filter::<DeadReason>::default().is_empty());
        for (name, set) in conditions {
            for own in [true, false] {
                let mut filter = Filter::default();
                set(&mut filter, own);
                assert!(!filter.is_empty(), "{name}");
                assert_eq!(filter.matches(&facts(), NOW), own, "{name} {own}");
                assert!(
                    !filter.matches(&unknown(), NOW),
                    "{name}: what is not known was taken for a match"
                );
            }
        }
    }
}
