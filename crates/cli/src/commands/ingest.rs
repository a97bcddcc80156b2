//! `hooklane ingest`

use std::sync::Arc;

use clap::Args;
use futures_util::FutureExt;
use hooklane_broker::rabbitmq::Role as BrokerRole;
use hooklane_broker::{Linger, RecordWriter};
use hooklane_ingest::{Front, IngestSettings, Ports, Waiting};
use hooklane_store::PublishedIds;
use hooklane_store::postgres::PostgresPublished;
use hooklane_telemetry::Metrics;
use tokio::sync::watch;

use super::block_on;
use super::flags::{BrokerFlags, SettingsFlags, StoreFlags, flag, start_log};
use super::opening::Opening;
use super::service::{ListenSetting, Signals, alive, listen, run_beside};
use super::{management, pod, recording};
use crate::settings::watch::Watch;
use crate::settings::{self, Loaded, Role, Sources};

pub const LISTEN: ListenSetting = ListenSetting {
    section: "ingest",
    variable: "HOOKLANE_INGEST__LISTEN",
};

#[derive(Args)]
pub struct Ingest {
    #[command(flatten)]
    settings: SettingsFlags,
    #[command(flatten)]
    broker: BrokerFlags,
    #[command(flatten)]
    store: StoreFlags,
    /// Where to listen [default: 127.0.0.1:8071]; port 0 takes a free one, and the line printed names it
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
}

impl Ingest {
    /// Serves until SIGTERM or SIGINT.
    pub fn run(self) -> anyhow::Result<()> {
        let flags = vec![
            self.broker.flag(),
            self.store.flag(),
            flag("--listen", "ingest.listen", self.listen.as_ref()),
        ];
        let sources = self.settings.sources(flags);
        let loaded = settings::load(&sources, Role::Ingest)?;
        start_log(&loaded.settings.log, "info")?;
        block_on(serve(sources, loaded))
    }
}

/// SIGHUP makes ingest look at its certificate, too.
pub fn signals(settings: &IngestSettings) -> Signals {
    Signals {
        reload_tls: settings.tls.as_ref().map(|tls| tls.reload.clone()),
        ..Signals::default()
    }
}

/// `https` where TLS is set.
pub fn scheme(settings: &IngestSettings) -> &'static str {
    match settings.tls {
        Some(_) => "https",
        None => "http",
    }
}

async fn serve(sources: Sources, loaded: Loaded) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::new());
    let settings = loaded.settings.clone();
    let section = settings.ingest.clone();
    let listener = listen(section.listen, &LISTEN).await?;
    let rabbitmq = loaded.settings.broker.rabbitmq(BrokerRole::Ingest)?;
    let queue = management::Queue::rabbitmq(rabbitmq, metrics.clone())?;
    let broker = queue.broker.clone();
    let signals = signals(&section.settings);
    let mut tasks = alive(&signals, &broker)?;
    let opening = Opening::new(&listener, scheme(&section.settings))?;
    let waiting = Waiting {
        why: opening.why(),
        metrics: metrics.clone(),
        has_tokens: settings.store.postgres.is_some(),
    };
    let front = Front::open(section.settings, waiting, listener, signals.stop.clone()).await?;
    let (mut watch, mut registry) = Watch::new(sources, Role::Ingest, loaded, metrics.clone());
    // What does not stand in the file is not there.
    let mut is_current = watch::channel(true).1;
    let (mut read_token, mut records, mut telling) = (None, RecordWriter::off(), None);
    let mut ids: Option<Arc<dyn PublishedIds>> = None;
    if settings.store.postgres.is_some() {
        let snapshot = settings.store.snapshot.clone();
        let pod = pod::open(&settings, registry, snapshot, &opening, &signals);
        let Some(pod) = front.beside(pod).await? else {
            broker.shut_down().await;
            return Ok(());
        };
        // What tokens say, and nothing else of it.
        let (api, _) = pod.api(&settings, None, queue, metrics.clone())?;
        read_token = Some(management::read_token(api));
        registry = pod.loaded.followed.registry.clone();
        is_current = pod.loaded.followed.is_current.clone();
        watch = watch.taken_by(pod.loaded.followed.base.clone());
        telling = Some(pod.follow("ingest", &mut tasks, &signals).await);
        ids = Some(Arc::new(PostgresPublished::new(pod::postgres(&settings)?)?));
        if settings.store.history {
            let parts = (broker.clone(), metrics.clone());
            records = recording::writer(("ingest", Linger::Short), &settings, parts, &mut tasks, &signals);
        }
    }
    tasks.spawn(watch.follow(signals.reload.clone(), signals.stop.clone()));
    let ports = Ports {
        broker: broker.clone(),
        records,
        ids,
        registry,
        is_current,
        metrics,
        read_token,
        routes: Default::default(),
    };
    opening.is_over()?;
    let service = front.run(ports).map(Ok::<_, anyhow::Error>);
    let result = run_beside(service, tasks, &signals).await;
    if let Some(telling) = telling {
        telling.ended().await;
    }
    broker.shut_down().await;
    result
}
