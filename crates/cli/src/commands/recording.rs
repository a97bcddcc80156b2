//! What keeps the history, in `serve` and in `control`: the recorder, and what carries out recoveries.

use std::sync::Arc;

use futures_util::FutureExt;
use hooklane_api::{Api, RecoveryWorker};
use hooklane_broker::{Linger, RecordWriter, SharedBroker};
use hooklane_control::{AutoDisable, Recorder};
use hooklane_store::catalog::Catalog;
use hooklane_store::history::History;
use hooklane_telemetry::Metrics;
use hooklane_types::Registry;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::service::Signals;
use super::{drops, now};
use crate::settings::Settings;

/// What it works with.
pub struct Parts {
    pub catalog: Arc<dyn Catalog>,
    /// None where nothing is recorded.
    pub history: Option<Arc<dyn History>>,
    pub broker: SharedBroker,
    pub registry: watch::Receiver<Arc<Registry>>,
    pub metrics: Arc<Metrics>,
}

/// Starts the recorder, where there is a history, and gives what writes records for it.
pub fn start(
    role: &str,
    settings: &Settings,
    parts: Parts,
    tasks: &mut JoinSet<anyhow::Result<()>>,
    signals: &Signals,
) -> RecordWriter {
    let Some(history) = parts.history else {
        return RecordWriter::off();
    };
    let records = writer(
        (role, Linger::Short),
        settings,
        (parts.broker.clone(), parts.metrics.clone()),
        tasks,
        signals,
    );
    let recorder = Recorder {
        broker: parts.broker.clone(),
        history: history.clone(),
        metrics: parts.metrics,
        clock: now,
        disable: Some(AutoDisable {
            catalog: parts.catalog,
            history,
            broker: parts.broker,
            registry: parts.registry,
            operational_application: settings.dispatcher.settings.operational_application.clone(),
            after: settings.store.disable_after,
            clock: now,
        }),
        retention: Some(settings.store.retention),
    };
    tasks.spawn(recorder.run(signals.stop.clone()).map(Ok));
    records
}

/// What writes records, and tells what it had to drop.
pub fn writer(
    (role, linger): (&str, Linger),
    settings: &Settings,
    (broker, metrics): (SharedBroker, Arc<Metrics>),
    tasks: &mut JoinSet<anyhow::Result<()>>,
    signals: &Signals,
) -> RecordWriter {
    let parts = (broker.clone(), metrics.clone());
    drops::tell(role, settings, parts, tasks, signals.stop.clone());
    RecordWriter::start(broker, settings.broker.publish_timeout, linger, metrics)
}

/// Carries out recoveries until the stop.
pub fn recover(
    worker: RecoveryWorker,
    api: Arc<Api>,
    tasks: &mut JoinSet<anyhow::Result<()>>,
    signals: &Signals,
) {
    let until = signals.stop.clone();
    tasks.spawn(async move {
        until.run_until_cancelled(worker.run(api)).await;
        Ok(())
    });
}
