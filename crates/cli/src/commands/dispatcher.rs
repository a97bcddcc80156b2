//! `hooklane dispatcher`

use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use hooklane_broker::rabbitmq::{RabbitMq, Role as BrokerRole};
use hooklane_broker::{Linger, RecordWriter, SharedBroker};
use hooklane_dispatcher::Ports;
use hooklane_egress::Client;
use hooklane_store::postgres::PostgresClaims;
use hooklane_store::{Claims, ProcessClaims};
use hooklane_telemetry::{Metrics, Readiness, operations_router};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::block_on;
use super::flags::{BrokerFlags, SettingsFlags, StoreFlags, flag, start_log};
use super::opening::Opening;
use super::service::{ListenSetting, Signals, alive, listen, readiness, run_beside};
use super::{pod, recording};
use crate::settings::watch::Watch;
use crate::settings::{self, Loaded, Role, Sources};

const LISTEN: ListenSetting = ListenSetting {
    section: "dispatcher",
    variable: "HOOKLANE_DISPATCHER__LISTEN",
};

#[derive(Args)]
pub struct Dispatcher {
    #[command(flatten)]
    settings: SettingsFlags,
    #[command(flatten)]
    broker: BrokerFlags,
    #[command(flatten)]
    store: StoreFlags,
    /// Where /metrics, /healthz and /readyz are served [default: 127.0.0.1:8072]; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
}

impl Dispatcher {
    /// Delivers until SIGTERM or SIGINT.
    pub fn run(self) -> anyhow::Result<()> {
        let flags = vec![
            self.broker.flag(),
            self.store.flag(),
            flag("--listen", "dispatcher.listen", self.listen.as_ref()),
        ];
        let sources = self.settings.sources(flags);
        let loaded = settings::load(&sources, Role::Dispatcher)?;
        start_log(&loaded.settings.log, "info")?;
        block_on(serve(sources, loaded))
    }
}

async fn serve(sources: Sources, loaded: Loaded) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::new());
    let settings = loaded.settings.clone();
    let section = settings.dispatcher.clone();
    let listener = listen(section.listen, &LISTEN).await?;
    let client = Client::new(loaded.settings.egress.clone(), metrics.clone())
        .context("[egress] does not make a client")?;
    let rabbitmq = loaded.settings.broker.rabbitmq(BrokerRole::Dispatcher)?;
    let broker: SharedBroker = RabbitMq::start(rabbitmq, metrics.clone())?;
    let signals = Signals::default();
    let mut tasks = alive(&signals, &broker)?;
    let opening = Opening::new(&listener, "http")?;
    tasks.spawn(operations(
        listener,
        metrics.clone(),
        ready(opening.why(), broker.clone(), signals.clone()),
    ));
    let (mut watch, mut registry) = Watch::new(sources, Role::Dispatcher, loaded, metrics.clone());
    // What does not stand in the file is not there.
    let mut is_current = watch::channel(true).1;
    let (mut records, mut telling, mut shared_claims) = (RecordWriter::off(), None, None);
    if settings.store.postgres.is_some() {
        let snapshot = settings.store.snapshot.clone();
        let Some(pod) = pod::open(&settings, registry, snapshot, &opening, &signals).await? else {
            broker.shut_down().await;
            return Ok(());
        };
        registry = pod.loaded.followed.registry.clone();
        is_current = pod.loaded.followed.is_current.clone();
        watch = watch.taken_by(pod.loaded.followed.base.clone());
        telling = Some(pod.follow("dispatcher", &mut tasks, &signals).await);
        if settings.store.claims {
            shared_claims = Some(Arc::new(PostgresClaims::new(pod::postgres(&settings)?)?));
        }
        if settings.store.history {
            let parts = (broker.clone(), metrics.clone());
            records = recording::writer(
                ("dispatcher", Linger::Long),
                &settings,
                parts,
                &mut tasks,
                &signals,
            );
        }
    }
    tasks.spawn(watch.follow(signals.reload.clone(), signals.stop.clone()));
    let claims: Arc<dyn Claims> = match &shared_claims {
        Some(shared) => shared.clone(),
        None => Arc::new(ProcessClaims::new(section.claim_entries_max)),
    };
    opening.is_over()?;
    let service = hooklane_dispatcher::run(
        section.settings,
        Ports {
            broker: broker.clone(),
            client,
            claims,
            registry,
            is_current,
            records,
            metrics,
        },
        signals.shutdown(),
    );
    let result = run_beside(service, tasks, &signals).await;
    if let Some(claims) = shared_claims {
        claims.shut_down().await;
    }
    if let Some(telling) = telling {
        telling.ended().await;
    }
    broker.shut_down().await;
    result
}

/// Whether it can work: why it does not yet, then how its broker stands.
fn ready(
    waits: watch::Receiver<Option<String>>,
    broker: SharedBroker,
    signals: Signals,
) -> impl Fn() -> Readiness + Send + Sync {
    move || match &*waits.borrow() {
        Some(why) if !signals.stop.is_cancelled() => Readiness::NotReady(why.clone()),
        _ => readiness(&broker, &signals.stop),
    }
}

/// Serves metrics and health until the process ends, the time in which it finishes its work included.
async fn operations(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    ready: impl Fn() -> Readiness + Send + Sync + 'static,
) -> anyhow::Result<()> {
    axum::serve(listener, operations_router(metrics, Arc::new(ready)))
        .await
        .context("the listener for metrics broke down")
}
