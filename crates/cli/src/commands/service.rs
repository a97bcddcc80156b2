//! What the services share: the listener, signals, and the end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use hooklane_broker::{BrokerState, SharedBroker};
use hooklane_dispatcher::Shutdown;
use hooklane_telemetry::Readiness;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::print;

/// How long a service may take to end after the second signal, before it is left as it is.
pub const END_AT_ONCE: Duration = Duration::from_secs(2);

/// Which setting says where a service listens.
pub struct ListenSetting {
    /// `ingest`
    pub section: &'static str,
    /// `HOOKLANE_INGEST__LISTEN`
    pub variable: &'static str,
}

/// Listens, or says which setting names the address.
pub async fn listen(address: SocketAddr, setting: &ListenSetting) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "cannot listen on {address}: give another address with --listen, {} or `listen` in [{}]",
            setting.variable, setting.section
        )
    })
}

/// Prints the address that was really bound: with port 0, nobody else knows it.
pub fn announce(address: SocketAddr, scheme: &str) -> anyhow::Result<()> {
    print::line(format_args!("listening on {scheme}://{address}"))
}

/// What signals ask of a service.
#[derive(Clone, Default)]
pub struct Signals {
    /// The first SIGTERM or SIGINT: end in order.
    pub stop: CancellationToken,
    /// The second: end at once.
    pub now: CancellationToken,
    /// SIGHUP: look at the settings file.
    pub reload: Arc<Notify>,
    /// SIGHUP: look at the listener's certificate.
    pub reload_tls: Option<Arc<Notify>>,
}

impl Signals {
    /// What they say to a dispatcher.
    pub fn shutdown(&self) -> Shutdown {
        Shutdown {
            stop: self.stop.clone(),
            now: self.now.clone(),
        }
    }

    /// Follows signals until the second one to end came. They are handled from now on, not only once the future is polled.
    ///
    /// # Errors
    /// When the system refuses a handler.
    pub fn follow(self) -> anyhow::Result<impl Future<Output = anyhow::Result<()>> + use<>> {
        let refused = "signals cannot be handled";
        let mut terminate = signal(SignalKind::terminate()).context(refused)?;
        let mut interrupt = signal(SignalKind::interrupt()).context(refused)?;
        let mut hang_up = signal(SignalKind::hangup()).context(refused)?;
        Ok(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                    _ = hang_up.recv() => {
                        self.reload.notify_one();
                        if let Some(tls) = &self.reload_tls {
                            tls.notify_one();
                        }
                        continue;
                    }
                }
                if self.stop.is_cancelled() {
                    self.now.cancel();
                    return Ok(());
                }
                tracing::info!(
                    "stopping: taking no new work, finishing what is in flight; a second signal ends at once"
                );
                self.stop.cancel();
            }
        })
    }
}

/// The tasks that no service can be without: signals and the broker.
///
/// # Errors
/// When signals cannot be handled.
pub fn alive(signals: &Signals, broker: &SharedBroker) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
    let mut tasks = JoinSet::new();
    tasks.spawn(signals.clone().follow()?);
    tasks.spawn(broker_lives(broker.clone()));
    Ok(tasks)
}

/// Runs a service beside its essential tasks, to the service's end. A task that ends before the stop ends the process with an
/// error; the tasks are ended with the service.
pub async fn run_beside<E>(
    service: impl Future<Output = Result<(), E>>,
    mut tasks: JoinSet<anyhow::Result<()>>,
    signals: &Signals,
) -> anyhow::Result<()>
where
    E: Into<anyhow::Error>,
{
    tokio::pin!(service);
    loop {
        tokio::select! {
            result = &mut service => {
                if signals.now.is_cancelled() {
                    bail!("ended by the second signal, with work in flight given back to the broker");
                }
                return result.map_err(Into::into);
            }
            () = forced_end(&signals.now) => bail!("ended by the second signal"),
            Some(ended) = tasks.join_next() => {
                ended.context("a task of the process broke down")??;
                if !signals.stop.is_cancelled() {
                    bail!("a task of the process ended before it was asked to");
                }
            }
        }
    }
}

async fn forced_end(now: &CancellationToken) {
    now.cancelled().await;
    tokio::time::sleep(END_AT_ONCE).await;
}

/// An essential task: ends, with an error, when the broker's own tasks have ended without being told to. No connection is ever
/// made again then.
async fn broker_lives(broker: SharedBroker) -> anyhow::Result<()> {
    let mut state = broker.state();
    while state.changed().await.is_ok() {}
    bail!("the connection to the broker was given up: a task that keeps it broke down")
}

/// Whether a process can work, by its broker connections.
pub fn readiness(broker: &SharedBroker, stop: &CancellationToken) -> Readiness {
    if stop.is_cancelled() {
        return Readiness::NotReady("stopping".to_owned());
    }
    for (what, state) in [
        ("publishing", broker.state()),
        ("consuming", broker.consume_state()),
    ] {
        match &*state.borrow() {
            BrokerState::Connected => {}
            BrokerState::Blocked { reason } => {
                return Readiness::NotReady(format!("the broker takes no messages: {reason}"));
            }
            BrokerState::Disconnected { last_error } => {
                return Readiness::NotReady(format!("no connection to the broker for {what}: {last_error}"));
            }
        }
    }
    Readiness::Ready
}

#[cfg(test)]
mod tests {
    use hooklane_broker::rabbitmq::{RabbitMq, RabbitMqSettings, Role};
    use hooklane_telemetry::Metrics;

    use super::*;

    #[tokio::test]
    async fn a_broker_that_ends_by_itself_ends_the_process_with_an_error() {
        // Goal: the service alone would wait for ever; nothing listens at port 1, which the broker's tasks survive.
        let settings = RabbitMqSettings::new(Role::Ingest, "amqp://guest:guest@127.0.0.1:1").unwrap();
        let broker: SharedBroker = RabbitMq::start(settings, Arc::new(Metrics::new())).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(broker_lives(broker.clone()));
        let signals = Signals::default();
        let service = std::future::pending::<Result<(), std::io::Error>>();
        let process = run_beside(service, tasks, &signals);
        let (ended, ()) = tokio::join!(
            tokio::time::timeout(Duration::from_secs(30), process),
            broker.shut_down()
        );
        let error = ended.expect("it ended").unwrap_err();
        assert!(error.to_string().contains("broker was given up"), "{error}");
    }
}
