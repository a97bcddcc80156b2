//! What `hooklane check` says about the broker: whether it is reachable, what it is, and whether everything is there as it should be.

use lapin::options::BasicQosOptions;

use super::connection::{ConnectError, Link};
use super::declare::{DeclareError, Declarer, Step, Thing};
use super::server;
use super::settings::{Declare, RabbitMqSettings, Role};
use super::url::BrokerUrl;
use crate::topology::{Actor, Rights, Topology};

/// How a finding is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, but somebody should look at it.
    Warning,
    /// It does not work.
    Problem,
}

/// One line of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How it is meant.
    pub verdict: Verdict,
    /// What was found.
    pub what: String,
    /// What to do about it; empty when nothing is to be done.
    pub remedy: String,
}

impl Finding {
    fn ok(what: impl Into<String>) -> Finding {
        Finding {
            verdict: Verdict::Ok,
            what: what.into(),
            remedy: String::new(),
        }
    }

    fn warning(what: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding {
            verdict: Verdict::Warning,
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    fn problem(what: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding {
            verdict: Verdict::Problem,
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

/// Looks at everything and changes nothing: what is missing is not made, and what is there is declared only as it is.
pub async fn check(settings: &RabbitMqSettings) -> Vec<Finding> {
    let topology = match settings.topology() {
        Ok(topology) => topology,
        Err(error) => return vec![Finding::problem(error.to_string(), "mend the setting")],
    };
    let link = match Link::open(settings, "check").await {
        Ok(link) => link,
        Err(error) => return vec![unreachable(settings, &error)],
    };
    let mut findings = vec![Finding::ok(format!("connected to {}", link.url()))];
    findings.push(version(settings, link.url()).await);
    let mut look = Look {
        declarer: Declarer::new(link.connection()),
        may_declare: true,
        missing: Vec::new(),
        settings,
        topology: &topology,
    };
    match look.everything().await {
        Ok(found) => findings.extend(found),
        Err(error) => findings.push(Finding::problem(
            error.to_string(),
            "look at the broker's log, then check again",
        )),
    }
    look.declarer.close().await;
    if let Err(error) = channels(&link).await {
        findings.push(Finding::problem(
            format!("a channel could not be used: {error}"),
            "look at the broker's log",
        ));
    }
    link.close().await;
    findings
}

fn unreachable(settings: &RabbitMqSettings, error: &ConnectError) -> Finding {
    let what = match error {
        ConnectError::Nowhere(_) => format!("no connection to any node: {error}"),
        _ => format!("no connection to {}: {error}", settings.urls),
    };
    Finding::problem(what, remedy(error))
}

fn remedy(error: &ConnectError) -> &'static str {
    let text = error.to_string();
    match error {
        ConnectError::Nowhere(tried) => tried.last().map_or("", |(_, error)| remedy(error)),
        ConnectError::Tls(_) => "mend the certificate files that the settings name",
        ConnectError::Timeout { .. } => {
            "see whether host and port are right, and whether a firewall drops packets"
        }
        ConnectError::Refused(refused) if refused.is_amqp_error() && text.contains("vhost") => {
            "create the vhost (rabbitmqctl add_vhost), or give the user rights in it (rabbitmqctl set_permissions)"
        }
        ConnectError::Refused(refused) if refused.is_amqp_error() => {
            "see whether user and password are right"
        }
        ConnectError::Refused(_) => {
            "see whether host and port are right, the broker runs, and amqp or amqps is meant"
        }
    }
}

async fn version(settings: &RabbitMqSettings, url: &BrokerUrl) -> Finding {
    const OLDEST: (u32, u32) = (3, 10);
    match server::identify(settings, url).await {
        Err(error) => Finding::warning(format!("the broker's version is not known: {error}"), ""),
        Ok(server) => {
            let what = format!("{} {}", server.product, server.version);
            if server.product != "RabbitMQ" {
                Finding::warning(what, "Hooklane is tested with RabbitMQ only")
            } else if server.release().is_none_or(|release| release < OLDEST) {
                Finding::problem(
                    what,
                    "RabbitMQ 3.10 is the oldest that can delay messages in quorum queues: update it",
                )
            } else {
                Finding::ok(what)
            }
        }
    }
}

async fn channels(link: &Link) -> lapin::Result<()> {
    let channel = link.connection().create_channel().await?;
    channel.basic_qos(1, BasicQosOptions { global: false }).await?;
    channel.close(200, "OK".into()).await
}

struct Look<'a> {
    declarer: Declarer<'a>,
    may_declare: bool,
    missing: Vec<String>,
    settings: &'a RabbitMqSettings,
    topology: &'a Topology,
}

impl Look<'_> {
    async fn everything(&mut self) -> Result<Vec<Finding>, DeclareError> {
        let mut findings = Vec::new();
        for exchange in &self.topology.exchanges {
            findings.extend(self.thing(Thing::Exchange(exchange)).await?);
        }
        for queue in &self.topology.queues {
            findings.extend(self.thing(Thing::Queue(queue)).await?);
        }
        let (exchanges, queues) = (self.topology.exchanges.len(), self.topology.queues.len());
        findings.extend(self.what_is_missing(exchanges + queues));
        // Bindings of what is missing can't be looked at: they are made together with it.
        if self.may_declare && self.missing.is_empty() {
            for binding in &self.topology.bindings {
                findings.extend(self.binding(Thing::Binding(binding)).await?);
            }
        }
        let seen = match self.may_declare {
            true => "looked at with their arguments",
            false => "looked at for existence only, because this account may not declare",
        };
        findings.push(Finding::ok(format!(
            "{exchanges} exchanges and {queues} queues {seen}"
        )));
        if !self.may_declare {
            findings.push(self.rights());
        }
        Ok(findings)
    }

    /// Passively first: an active declaration would make what is missing.
    async fn thing(&mut self, thing: Thing<'_>) -> Result<Option<Finding>, DeclareError> {
        if let Step::Missing = self.declarer.step(thing, true).await? {
            self.missing.push(thing.to_string());
            return Ok(None);
        }
        if !self.may_declare {
            return Ok(None);
        }
        match self.declarer.step(thing, false).await? {
            Step::Done | Step::Missing => Ok(None),
            Step::Forbidden(_) => {
                self.may_declare = false;
                Ok(None)
            }
            Step::Differs(difference) => Ok(Some(Finding::warning(
                format!("{thing} has other arguments than ours: {difference}"),
                "it is used as it is; to change it, drain it, delete it, and let it be made again",
            ))),
        }
    }

    /// All in one line: on a fresh broker, everything is missing.
    fn what_is_missing(&self, all: usize) -> Option<Finding> {
        let what = match self.missing.as_slice() {
            [] => return None,
            missing if missing.len() == all => "nothing of Hooklane is declared on the broker yet".to_owned(),
            [one] => format!("{one} is missing"),
            several => format!("{} are missing", several.join(", ")),
        };
        Some(match self.settings.declare {
            Declare::Create if self.may_declare => Finding::warning(
                what,
                "ingest and dispatcher declare what is missing when they start",
            ),
            _ => Finding::problem(
                what,
                "have it declared by an account that may: `hooklane topology --declare`",
            ),
        })
    }

    /// A binding that is there is not changed by binding again; a missing one is made, which is what every process does.
    async fn binding(&mut self, thing: Thing<'_>) -> Result<Option<Finding>, DeclareError> {
        if self.settings.declare == Declare::Passive {
            return Ok(None);
        }
        Ok(match self.declarer.step(thing, false).await? {
            Step::Done | Step::Forbidden(_) => None,
            Step::Missing => Some(Finding::problem(
                format!("{thing} can't be made"),
                "see `hooklane topology`",
            )),
            Step::Differs(why) => Some(Finding::problem(
                format!("{thing} can't be made: {why}"),
                "see `hooklane topology`",
            )),
        })
    }

    fn rights(&self) -> Finding {
        let actor = match self.settings.role {
            Role::Ingest => Actor::Ingest,
            Role::Dispatcher => Actor::Dispatcher,
            Role::Control | Role::Operator => Actor::Operator,
        };
        let Rights {
            configure,
            write,
            read,
        } = Rights::least(&self.topology.names, actor);
        let (name, vhost, user) = (
            actor.name(),
            self.settings.urls.vhost(),
            self.settings.urls.user(),
        );
        Finding::ok(format!(
            "rights can't be looked at from here; the least for {name}: rabbitmqctl set_permissions -p '{vhost}' '{user}' \
             '{configure}' '{write}' '{read}'"
        ))
    }
}
