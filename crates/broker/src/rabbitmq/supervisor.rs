//! Keeps one connection up: makes it, watches it, makes it again, for as long as the process lives.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use hooklane_telemetry::{Metric, Metrics};
use lapin::Event;
use rand::Rng;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::connection::Link;
use super::declare::{DeclareError, declare};
use super::settings::{Declare, RabbitMqSettings};
use crate::port::BrokerState;
use crate::topology::Topology;

/// What connections are for: a label of metrics, and a part of their names.
pub(crate) const PUBLISH: &str = "publish";
pub(crate) const CONSUME: &str = "consume";
/// Pauses between attempts to connect; doubled after each, jittered.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A clean close by the server raises no event in lapin, so the state is looked at as well.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// The other connection of the process has just declared everything.
const DECLARED_FRESH: Duration = Duration::from_secs(10);

/// What the supervisors of a process share.
pub(crate) struct Shared {
    pub(crate) settings: RabbitMqSettings,
    pub(crate) topology: Topology,
    pub(crate) metrics: Arc<Metrics>,
    /// When everything was last declared; held while declaring, so that the two connections don't do it at once.
    declared: Mutex<Option<Instant>>,
}

impl Shared {
    pub(crate) fn new(settings: RabbitMqSettings, topology: Topology, metrics: Arc<Metrics>) -> Shared {
        Shared {
            settings,
            topology,
            metrics,
            declared: Mutex::new(None),
        }
    }

    /// Declares everything, unless that has just been done.
    pub(crate) async fn declare(&self, link: &Live, fresh: Duration) -> Result<(), DeclareError> {
        let mut declared = self.declared.lock().await;
        if declared.is_some_and(|at| at.elapsed() < fresh) {
            return Ok(());
        }
        declare(link.link.connection(), &self.topology, self.settings.declare).await?;
        *declared = Some(Instant::now());
        Ok(())
    }

    /// Declares again what somebody deleted, where declaring is ours.
    pub(crate) async fn mend(&self, link: &Live) {
        if self.settings.declare == Declare::Create
            && let Err(error) = self.declare(link, Duration::from_millis(200)).await
        {
            warn!("exchanges and queues could not be declared again: {error}");
        }
    }
}

/// A connection that is up, or was until `lost` was cancelled.
pub(crate) struct Live {
    pub(crate) link: Link,
    pub(crate) lost: CancellationToken,
}

/// A handle to the connection that a supervisor keeps.
#[derive(Clone)]
pub(crate) struct Supervised {
    live: watch::Receiver<Option<Arc<Live>>>,
    state: watch::Receiver<BrokerState>,
    wanted: CancellationToken,
}

impl Supervised {
    /// The handle, and the task to be spawned. Nothing is connected before [`Supervised::want`].
    pub(crate) fn new(
        shared: Arc<Shared>,
        purpose: &'static str,
        initial: BrokerState,
        stop: CancellationToken,
    ) -> (Supervised, impl Future<Output = ()> + Send) {
        let (live_out, live) = watch::channel(None);
        let (state_out, state) = watch::channel(initial);
        let wanted = CancellationToken::new();
        let supervisor = Supervisor {
            shared,
            purpose,
            live: live_out,
            state: state_out,
            wanted: wanted.clone(),
            stop,
            connects: 0,
            node: 0,
        };
        (Supervised { live, state, wanted }, supervisor.run())
    }

    /// Asks for the connection.
    pub(crate) fn want(&self) {
        self.wanted.cancel();
    }

    pub(crate) fn state(&self) -> watch::Receiver<BrokerState> {
        self.state.clone()
    }

    /// The connection once it is up; `None` when the supervisor has ended.
    pub(crate) async fn live(&mut self) -> Option<Arc<Live>> {
        self.want();
        let live = self.live.wait_for(Option::is_some).await.ok()?;
        live.clone()
    }

    /// Why there is no connection, in words.
    pub(crate) fn trouble(&self) -> String {
        match &*self.state.borrow() {
            BrokerState::Connected => "the broker does not answer".to_owned(),
            BrokerState::Blocked { reason } => format!(
                "the broker takes no publishes: {reason} (an alarm; free memory or disk on its nodes, it goes on by itself)"
            ),
            BrokerState::Disconnected { last_error } => format!("no connection to the broker: {last_error}"),
        }
    }
}

struct Supervisor {
    shared: Arc<Shared>,
    purpose: &'static str,
    live: watch::Sender<Option<Arc<Live>>>,
    state: watch::Sender<BrokerState>,
    wanted: CancellationToken,
    stop: CancellationToken,
    connects: u64,
    /// Where the next round of attempts to connect begins: behind a node that was lost, or of no use.
    node: usize,
}

impl Supervisor {
    async fn run(mut self) {
        let stop = self.stop.clone();
        if stop.run_until_cancelled(self.wanted.cancelled()).await.is_none() {
            return;
        }
        // Readers were told `Connected` while nobody wanted a connection.
        self.state.send_if_modified(|state| {
            let changed = *state == BrokerState::Connected;
            if changed {
                *state = BrokerState::Disconnected {
                    last_error: "not yet connected".to_owned(),
                };
            }
            changed
        });
        let mut pause = PAUSE_MIN;
        while !stop.is_cancelled() {
            match stop.run_until_cancelled(self.connect()).await {
                None => break,
                Some(Err(last_error)) => self.down(last_error),
                Some(Ok(live)) => {
                    let up_since = Instant::now();
                    let live = self.up(live);
                    let ended = self.watch(&live).await;
                    self.live.send_replace(None);
                    live.lost.cancel();
                    match ended {
                        Ended::Stopped => {
                            live.link.close().await;
                            break;
                        }
                        Ended::Lost(last_error) => self.down(last_error),
                    }
                    // A connection that dies at once is no success: its successor must wait longer.
                    if up_since.elapsed() > PAUSE_MAX {
                        pause = PAUSE_MIN;
                    }
                }
            }
            let jittered = pause.mul_f64(rand::rng().random_range(0.5..1.0));
            if stop
                .run_until_cancelled(tokio::time::sleep(jittered))
                .await
                .is_none()
            {
                break;
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
        self.shared
            .metrics
            .set(Metric::BrokerConnected, &[self.purpose], 0.0);
        self.state.send_replace(BrokerState::Disconnected {
            last_error: "shut down".to_owned(),
        });
    }

    async fn connect(&mut self) -> Result<Live, String> {
        let link = Link::open_from(&self.shared.settings, self.purpose, self.node)
            .await
            .map_err(|error| error.to_string())?;
        self.node = link.node() + 1;
        let live = Live {
            link,
            lost: CancellationToken::new(),
        };
        self.shared
            .declare(&live, DECLARED_FRESH)
            .await
            .map_err(|error| error.to_string())?;
        Ok(live)
    }

    fn up(&mut self, live: Live) -> Arc<Live> {
        let live = Arc::new(live);
        self.connects += 1;
        if self.connects > 1 {
            self.shared
                .metrics
                .count(Metric::BrokerReconnects, &[self.purpose]);
        }
        self.shared
            .metrics
            .set(Metric::BrokerConnected, &[self.purpose], 1.0);
        info!(connection = self.purpose, broker = %live.link.url(), "connected to the broker");
        self.live.send_replace(Some(live.clone()));
        self.state.send_replace(BrokerState::Connected);
        live
    }

    fn down(&self, last_error: String) {
        self.shared
            .metrics
            .set(Metric::BrokerConnected, &[self.purpose], 0.0);
        self.count_blocked(0.0);
        let state = BrokerState::Disconnected { last_error };
        // Once per change: attempts that fail like the one before say nothing new.
        if *self.state.borrow() != state {
            if let BrokerState::Disconnected { last_error } = &state {
                error!(connection = self.purpose, broker = %self.shared.settings.urls, "no connection to the broker: {last_error}");
            }
            self.state.send_replace(state);
        }
    }

    /// Follows a connection until it ends.
    async fn watch(&self, live: &Live) -> Ended {
        let connection = live.link.connection();
        let mut events = Box::pin(connection.events_listener());
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_error = None;
        if connection.status().blocked() {
            // It came before we listened.
            self.blocked("a resource alarm is in effect".to_owned());
        }
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return Ended::Stopped,
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(reason)) => self.blocked(reason),
                    Some(Event::ConnectionUnblocked) => self.unblocked(),
                    // Also raised for a channel; whether it was the connection shows in the state.
                    Some(Event::Error(error)) => last_error = Some(error.to_string()),
                    Some(_) => {}
                    None => return Ended::Lost(last_error.unwrap_or_else(closed)),
                },
                _ = look.tick() => {}
            }
            if !connection.status().connected() {
                return Ended::Lost(last_error.unwrap_or_else(closed));
            }
        }
    }

    fn blocked(&self, reason: String) {
        warn!(
            connection = self.purpose,
            "the broker takes no publishes: {reason}"
        );
        self.count_blocked(1.0);
        self.state.send_replace(BrokerState::Blocked { reason });
    }

    fn unblocked(&self) {
        info!(connection = self.purpose, "the broker takes publishes again");
        self.count_blocked(0.0);
        self.state.send_replace(BrokerState::Connected);
    }

    /// The broker blocks only connections that publish.
    fn count_blocked(&self, value: f64) {
        if self.purpose == PUBLISH {
            self.shared.metrics.set(Metric::BrokerBlocked, &[], value);
        }
    }
}

fn closed() -> String {
    "the connection was closed".to_owned()
}

enum Ended {
    Stopped,
    Lost(String),
}
