//! `hooklane receiver`: a receiver to try things with. What it does to a request is the `receiver` crate's.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use hooklane_receiver::{Action, Options, Receiver as Listening, Reply, Request, Verdict};
use hooklane_signing::Verifier;
use tokio::task::JoinSet;

use super::service::{Signals, run_beside};
use super::signature_flags::SignatureFlags;
use super::{block_on, print, usage};

#[derive(Args)]
pub struct Receiver {
    /// Where to listen; port 0 takes a free one, and the line printed names it
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8073")]
    listen: SocketAddr,
    /// Likewise, on 127.0.0.1
    #[arg(long, value_name = "PORT", conflicts_with = "listen")]
    port: Option<u16>,
    #[command(flatten)]
    signature: SignatureFlags,
    /// How many of the first requests fail [default: all, where it is said how; else none]
    #[arg(long, value_name = "N")]
    fail: Option<u64>,
    /// They fail with this status [default: 500]
    #[arg(long, value_name = "STATUS", value_parser = clap::value_parser!(u16).range(200..=599), conflicts_with_all = ["hang", "reset"])]
    status: Option<u16>,
    /// They fail without an answer: the connection stays open
    #[arg(long, conflicts_with = "reset")]
    hang: bool,
    /// They fail by a connection that is reset
    #[arg(long)]
    reset: bool,
    /// Waits before each answer
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    delay: Duration,
}

/// What is done with which request.
struct Script {
    failures_left: AtomicU64,
    failure: Reply,
    delay: Duration,
}

impl Receiver {
    /// Receives until SIGTERM or SIGINT. One line for each request.
    pub fn run(self) -> anyhow::Result<()> {
        let verifier = self.verifier()?;
        let script = self.script();
        block_on(serve(self.address(), verifier, script))
    }

    fn address(&self) -> SocketAddr {
        match self.port {
            Some(port) => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            None => self.listen,
        }
    }

    /// None without a secret: then signatures are not checked.
    fn verifier(&self) -> anyhow::Result<Option<Verifier>> {
        if !self.signature.has_secrets() {
            return Ok(None);
        }
        let scheme = self.signature.scheme()?;
        let secrets = self.signature.secrets(&scheme)?;
        Verifier::new(scheme, secrets)
            .map(Some)
            .map_err(|error| usage(error.to_string()))
    }

    fn script(&self) -> Script {
        let is_told_how = self.status.is_some() || self.hang || self.reset;
        let failure = if self.hang {
            Reply::hang()
        } else if self.reset {
            Reply::reset()
        } else {
            Reply::status(self.status.unwrap_or(500))
        };
        Script {
            failures_left: AtomicU64::new(self.fail.unwrap_or(if is_told_how { u64::MAX } else { 0 })),
            failure,
            delay: self.delay,
        }
    }
}

impl Script {
    /// A failure while there are any left; then 401 where the signature is not valid, else 204.
    fn reply(&self, request: &Request) -> Reply {
        let one_less = |left: u64| left.checked_sub(1);
        let fails = self
            .failures_left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .is_ok();
        let reply = match &request.verdict {
            _ if fails => self.failure.clone(),
            Some(Verdict::Invalid(_)) => Reply::status(401),
            Some(Verdict::Valid) | None => Reply::status(204),
        };
        reply.after(self.delay)
    }
}

async fn serve(listen: SocketAddr, verifier: Option<Verifier>, script: Script) -> anyhow::Result<()> {
    let options = Options {
        listen,
        // Only counted: it may run for weeks.
        requests_kept_max: 0,
        ..Options::default()
    };
    let receiver = Listening::start(options)
        .await
        .context("give another address with --listen, or another --port")?;
    if let Some(verifier) = verifier {
        receiver.verify_default(verifier);
    }
    receiver.script_default_with(move |request| {
        let reply = script.reply(request);
        // A full disk at the other end of standard output is no reason to stop receiving.
        if let Err(error) = print::line(line(request, &reply)) {
            print::note(format_args!("{error:#}"));
        }
        reply
    });
    let signals = Signals::default();
    let mut tasks = JoinSet::new();
    tasks.spawn(signals.clone().follow()?);
    print::line(format_args!("listening on {}", receiver.url("")))?;
    let stop = signals.stop.clone();
    let stopped = async move {
        stop.cancelled().await;
        Ok::<(), std::io::Error>(())
    };
    run_beside(stopped, tasks, &signals).await?;
    let (total, valid) = receiver.look(|log| (log.total(), log.valid()));
    receiver.stop().await;
    print::line(format_args!(
        "received {}, {valid} with a valid signature",
        print::count(total, "request")
    ))
}

/// `POST /hook msg_1: 17 bytes, signature valid, answered 204`. Nothing of the body: it may hold anything.
fn line(request: &Request, reply: &Reply) -> String {
    let verdict = match &request.verdict {
        Some(Verdict::Valid) => "signature valid".to_owned(),
        Some(Verdict::Invalid(error)) => format!("signature NOT valid ({error})"),
        None => "signature not checked".to_owned(),
    };
    let answer = match &reply.action {
        Action::Answer { status, .. } => format!("answered {}", status.as_u16()),
        Action::Hang => "not answered".to_owned(),
        Action::Reset | Action::Close => "connection reset".to_owned(),
    };
    format!(
        "{} {} {}: {} bytes, {verdict}, {answer}",
        request.method,
        request.path,
        request.webhook_id().unwrap_or("(no webhook-id)"),
        request.body.len(),
    )
}
