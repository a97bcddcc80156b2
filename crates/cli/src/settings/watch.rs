//! Following the settings file: applications and endpoints take force while a process runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hooklane_telemetry::{Metric, Metrics};
use hooklane_types::Registry;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::fingerprint::Fingerprint;
use super::stamp::Stamp;
use super::{Loaded, Report, Role, Sources, load_text};

/// How often the file is looked at. Its content is read while it may have changed: that sees a swapped symbolic link (as Kubernetes
/// swaps mounted files) and a file that was written twice in a second.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is read at least: no file system's word is taken for longer.
const READ_EVERY: Duration = Duration::from_secs(30);

/// How long others may take to make a registry of their own.
const TAKEN_WITHIN: Duration = Duration::from_secs(2);

/// Follows one settings file.
pub struct Watch {
    sources: Sources,
    role: Role,
    metrics: Arc<Metrics>,
    registry: watch::Sender<Arc<Registry>>,
    /// The registry of the file that others have made their own of; none where everybody follows this one.
    taken: Option<watch::Receiver<Arc<Registry>>>,
    in_force: Fingerprint,
    last_text: String,
    /// The state in which the file had that text, and when it was read.
    known: Option<(Stamp, Instant)>,
    /// A changed text that has to stand still from one look to the next: half a file that is being written would otherwise
    /// remove endpoints, and their deliveries would be given up.
    pending: Option<String>,
    /// The last report, so that a file that cannot be read is logged once.
    last_report: Option<String>,
}

/// What a look at the file led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing new.
    Unchanged,
    /// New applications and endpoints are in force.
    Applied,
    /// The file is bad: the old ones stay in force.
    Refused,
}

impl Watch {
    /// Begins with what was loaded at the start. A file that was there then has to stay: without this, the default one that
    /// vanishes would be no file at all, with no endpoint in it, and whatever waits for one would be given up.
    pub fn new(
        mut sources: Sources,
        role: Role,
        loaded: Loaded,
        metrics: Arc<Metrics>,
    ) -> (Watch, watch::Receiver<Arc<Registry>>) {
        metrics.set(Metric::ConfigEndpoints, &[], loaded.endpoint_count as f64);
        let (registry, followed) = watch::channel(loaded.registry);
        sources.file = sources.path();
        let watch = Watch {
            sources,
            role,
            metrics,
            registry,
            taken: None,
            in_force: loaded.fingerprint,
            last_text: loaded.file_text.expose().to_owned(),
            known: None,
            pending: None,
            last_report: None,
        };
        (watch, followed)
    }

    /// From now on a file is said to be in force when this shows its registry.
    #[must_use]
    pub fn taken_by(mut self, taken: watch::Receiver<Arc<Registry>>) -> Watch {
        self.taken = Some(taken);
        self
    }

    /// Looks at the file every second, and at once when `now` is notified (SIGHUP), until `stop`.
    pub async fn follow(mut self, now: Arc<Notify>, stop: CancellationToken) -> anyhow::Result<()> {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let is_asked = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = now.notified() => true,
                _ = ticks.tick() => false,
            };
            self.look(is_asked).await;
        }
    }

    /// Looks once. When asked for (SIGHUP), the file is loaded as it stands, changed or not: secret files may have changed.
    pub async fn look(&mut self, is_asked: bool) -> Look {
        if is_asked {
            self.last_report = None;
        }
        let path = self.path();
        let stamp = tokio::task::spawn_blocking(move || Stamp::of(&path))
            .await
            .ok()
            .flatten();
        if !is_asked
            && let (Some(stamp), Some((known, read_at))) = (stamp, self.known)
            && stamp == known
            && read_at.elapsed() < READ_EVERY
        {
            return Look::Unchanged;
        }
        self.known = None;
        let sources = self.sources.clone();
        let text = match tokio::task::spawn_blocking(move || sources.read_file()).await {
            Ok(Ok(text)) => text,
            Ok(Err(problem)) => return self.refuse(&Report::new(vec![problem])),
            // The read was cancelled or panicked: the next look tries again.
            Err(error) => {
                tracing::warn!(error = %error, "the settings file could not be looked at");
                return Look::Unchanged;
            }
        };
        if !is_asked {
            if text == self.last_text {
                (self.pending, self.last_report) = (None, None);
                // Taken before it was read: a change since then shows.
                self.known = stamp.map(|stamp| (stamp, Instant::now()));
                return Look::Unchanged;
            }
            if self.pending.as_ref() != Some(&text) {
                self.pending = Some(text);
                return Look::Unchanged;
            }
        }
        self.pending = None;
        self.last_text = text.clone();
        match load_text(&self.sources, self.role, text) {
            Ok(loaded) => self.apply(loaded).await,
            Err(report) => self.refuse(&report),
        }
    }

    async fn apply(&mut self, loaded: Loaded) -> Look {
        self.last_report = None;
        let differences = self.in_force.differences(&loaded.fingerprint);
        if !differences.is_empty() {
            tracing::warn!(
                sections = differences.join(", "),
                "settings changed that take force only at a restart; applications and endpoints are in force now"
            );
        }
        self.registry.send_replace(loaded.registry.clone());
        if let Some(taken) = &mut self.taken {
            let taken = taken.wait_for(|taken| Arc::ptr_eq(taken, &loaded.registry));
            // Late, it takes force all the same.
            let _ = tokio::time::timeout(TAKEN_WITHIN, taken).await;
        }
        self.metrics.count(Metric::ConfigReloads, &["applied"]);
        self.metrics
            .set(Metric::ConfigEndpoints, &[], loaded.endpoint_count as f64);
        tracing::info!(endpoints = loaded.endpoint_count, file = %self.path().display(), "applications and endpoints were loaded again");
        Look::Applied
    }

    fn refuse(&mut self, report: &Report) -> Look {
        let report = report.to_string();
        if self.last_report.as_ref() != Some(&report) {
            self.metrics.count(Metric::ConfigReloads, &["refused"]);
            tracing::error!(
                report = report.as_str(),
                "the settings file is bad: the applications and endpoints loaded before stay in force"
            );
            self.last_report = Some(report);
        }
        Look::Refused
    }

    fn path(&self) -> PathBuf {
        self.sources.path().unwrap_or_default()
    }
}
