//! `hooklane check`

mod directory;
mod history;
mod store;

use std::fmt;
use std::fs::File;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use clap::{Args, ValueEnum};
use hooklane_broker::rabbitmq::check::{Finding, Verdict, check};
use hooklane_broker::rabbitmq::{RabbitMqSettings, Role as BrokerRole};
use hooklane_egress::guard::judge;
use hooklane_types::Endpoint;
use ipnet::IpNet;
use url::Host;

use super::flags::{BrokerFlags, SettingsFlags, StoreFlags};
use super::{block_on, print};
use crate::settings::{self, Loaded, Problem, Role, Sources};

/// Everybody else on the machine may read the file.
const READABLE_BY_ALL: u32 = 0o004;

#[derive(Args)]
pub struct Check {
    #[command(flatten)]
    settings: SettingsFlags,
    #[command(flatten)]
    broker: BrokerFlags,
    #[command(flatten)]
    store: StoreFlags,
    /// For whom: decides which secrets must be there, and which rights are named. Without it, everything is looked at
    #[arg(long, value_enum)]
    role: Option<For>,
}

#[derive(Clone, Copy, ValueEnum)]
enum For {
    Ingest,
    Dispatcher,
    Control,
    Operator,
}

impl For {
    fn roles(role: Option<For>) -> (Role, BrokerRole) {
        match role {
            None => (Role::Check, BrokerRole::Operator),
            Some(For::Ingest) => (Role::Ingest, BrokerRole::Ingest),
            Some(For::Dispatcher) => (Role::Dispatcher, BrokerRole::Dispatcher),
            Some(For::Control) => (Role::Control, BrokerRole::Control),
            Some(For::Operator) => (Role::Client, BrokerRole::Operator),
        }
    }
}

/// How many problems were found; what they are was printed.
#[derive(Debug)]
pub struct Problems(usize);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let was = if self.0 == 1 { "was" } else { "were" };
        write!(f, "{} {was} found", print::count(self.0 as u64, "problem"))
    }
}

impl std::error::Error for Problems {}

impl Check {
    /// Prints what was found, good and bad; fails when there is a problem. A problem in the settings does not keep the broker
    /// from being looked at, where its URL is right.
    pub fn run(self) -> anyhow::Result<()> {
        let (role, broker_role) = For::roles(self.role);
        let sources = self.settings.sources(vec![self.broker.flag(), self.store.flag()]);
        let (loaded, problems) = settings::inspect(&sources, role);
        let mut findings: Vec<Finding> = problems.iter().map(of_problem).collect();
        if let Some(loaded) = &loaded {
            findings.extend(of_settings(&sources, loaded, problems.is_empty()));
        }
        findings.iter().try_for_each(show)?;
        let embedded = loaded
            .as_ref()
            .filter(|loaded| loaded.settings.broker.url.is_none() && self.role.is_none())
            .map(|loaded| loaded.settings.embedded.clone());
        let postgres = loaded
            .as_ref()
            .and_then(|loaded| loaded.settings.store.postgres.clone());
        let within = loaded
            .as_ref()
            .map(|loaded| loaded.settings.broker.publish_timeout);
        let rabbitmq = loaded.and_then(|loaded| loaded.settings.broker.rabbitmq(broker_role).ok());
        let mut bad = count(&findings, Verdict::Problem);
        match rabbitmq {
            Some(rabbitmq) => {
                // Asking the dispatchers takes an operator's rights.
                let asked = within.filter(|_| broker_role == BrokerRole::Operator);
                bad += block_on(broker(rabbitmq, asked))?;
            }
            None if bad == 0 => show(&without_broker())?,
            None => {}
        }
        if let Some(postgres) = postgres {
            let finding = block_on(async { Ok(store::look(&postgres).await) })?;
            show(&finding)?;
            bad += count(&[finding], Verdict::Problem);
        }
        if let Some(embedded) = embedded {
            let mut findings = directory::findings(&embedded);
            if let Some(within) = within {
                findings.extend(block_on(async {
                    Ok(history::in_process(&embedded, within).await)
                })?);
            }
            findings.iter().try_for_each(show)?;
            bad += count(&findings, Verdict::Problem);
        }
        match bad {
            0 => Ok(()),
            _ => Err(Problems(bad).into()),
        }
    }
}

fn without_broker() -> Finding {
    Finding {
        verdict: Verdict::Warning,
        what: "no broker is set: `hooklane serve` runs on a queue of its own, `hooklane ingest` and `hooklane dispatcher` do not".to_owned(),
        remedy: "for RabbitMQ give --broker, HOOKLANE_BROKER__URL or [broker] url".to_owned(),
    }
}

/// Prints what is found on the broker, and what the dispatchers say where they are asked within a time; the number of problems.
async fn broker(settings: RabbitMqSettings, asked: Option<Duration>) -> anyhow::Result<usize> {
    let mut findings = check(&settings).await;
    if let Some(within) = asked.filter(|_| count(&findings, Verdict::Problem) == 0) {
        findings.extend(history::on_broker(settings, within).await);
    }
    findings.iter().try_for_each(show)?;
    Ok(count(&findings, Verdict::Problem))
}

fn count(findings: &[Finding], verdict: Verdict) -> usize {
    findings
        .iter()
        .filter(|finding| finding.verdict == verdict)
        .count()
}

fn of_problem(problem: &Problem) -> Finding {
    Finding {
        verdict: Verdict::Problem,
        what: problem.what(),
        remedy: problem.remedy.clone(),
    }
}

fn of_settings(sources: &Sources, loaded: &Loaded, is_right: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let finding = |verdict, what: String, remedy: &str| Finding {
        verdict,
        what,
        remedy: remedy.to_owned(),
    };
    let path = sources.path();
    let name = path.as_ref().map_or_else(
        || "no settings file".to_owned(),
        |path| path.display().to_string(),
    );
    if is_right {
        let endpoints = print::count(loaded.endpoint_count as u64, "endpoint");
        let applications = print::count(loaded.registry.applications().count() as u64, "application");
        let what = format!("settings ({name}): {endpoints}, {applications}");
        findings.push(finding(Verdict::Ok, what, ""));
    }
    if loaded.endpoint_count == 0 {
        let remedy = "write an [[endpoint]] (`hooklane init` shows one); until then no event goes anywhere";
        findings.push(finding(
            Verdict::Warning,
            "there is no endpoint".to_owned(),
            remedy,
        ));
    }
    for endpoint in loaded.registry.endpoints() {
        findings.extend(of_files(endpoint));
        findings.extend(of_address(endpoint, &loaded.settings.egress.allowed_networks));
    }
    let mode = path.and_then(|path| Some(std::fs::metadata(path).ok()?.permissions().mode()));
    if mode.is_some_and(|mode| mode & READABLE_BY_ALL != 0) && loaded.holds_secrets() {
        let what = format!("{name} holds secrets and can be read by every user of the machine");
        findings.push(finding(
            Verdict::Warning,
            what,
            "chmod o-r, or keep secrets in files and variables of their own",
        ));
    }
    findings
}

/// Certificates are read when they are first used, and again when they change: only here does somebody look before.
fn of_files(endpoint: &Endpoint) -> Vec<Finding> {
    let tls = &endpoint.tls;
    let client = tls.client.iter().flat_map(|client| {
        [
            ("client_certificate", &client.certificate),
            ("client_key", &client.key),
        ]
    });
    let files = tls.ca.iter().map(|path| ("ca_file", path)).chain(client);
    files
        .filter_map(|(key, path)| {
            let error = File::open(path).err()?;
            let (id, path) = (&endpoint.id, path.display());
            Some(Finding {
                verdict: Verdict::Problem,
                what: format!("endpoint {id}: {key} {path} cannot be read: {error}"),
                remedy: "name a PEM file that hooklane may read; until then every attempt fails".to_owned(),
            })
        })
        .collect()
}

/// What a name leads to is known at each connection only; an address is known now.
fn of_address(endpoint: &Endpoint, allowed: &[IpNet]) -> Option<Finding> {
    let address = match endpoint.url.host()? {
        Host::Ipv4(address) => IpAddr::V4(address),
        Host::Ipv6(address) => IpAddr::V6(address),
        Host::Domain(_) => return None,
    };
    let blocked = judge(address, allowed).err()?;
    Some(Finding {
        verdict: Verdict::Problem,
        what: format!(
            "endpoint {}: {blocked}, where no endpoint may be: every attempt fails",
            endpoint.id
        ),
        remedy: format!("give another URL, or allow it: `allow = [\"{address}\"]` in [egress]"),
    })
}

fn show(finding: &Finding) -> anyhow::Result<()> {
    let verdict = match finding.verdict {
        Verdict::Ok => "ok",
        Verdict::Warning => "warning",
        Verdict::Problem => "problem",
    };
    print::line(format_args!("{verdict:<8} {}", finding.what))?;
    if finding.remedy.is_empty() {
        return Ok(());
    }
    print::line(format_args!("{:<8} {}", "", finding.remedy))
}
