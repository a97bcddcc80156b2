//! `hooklane control`: the management API and the recorder, on PostgreSQL and RabbitMQ.

use std::sync::Arc;

use clap::Args;
use futures_util::FutureExt;
use hooklane_broker::rabbitmq::Role as BrokerRole;
use hooklane_ingest::{Front, Ports, Waiting};
use hooklane_store::history::History;
use hooklane_store::postgres::PostgresPublished;
use hooklane_store::postgres::history::PostgresHistory;
use hooklane_telemetry::Metrics;

use super::flags::{BrokerFlags, SettingsFlags, StoreFlags, flag, start_log};
use super::ingest::{LISTEN, scheme, signals};
use super::opening::Opening;
use super::service::{alive, listen, run_beside};
use super::{block_on, management, pod, recording, shelves};
use crate::settings::watch::Watch;
use crate::settings::{self, Loaded, Role, Sources};

#[derive(Args)]
pub struct Control {
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

impl Control {
    /// Serves until SIGTERM or SIGINT.
    pub fn run(self) -> anyhow::Result<()> {
        let flags = vec![
            self.broker.flag(),
            self.store.flag(),
            flag("--listen", "ingest.listen", self.listen.as_ref()),
        ];
        let sources = self.settings.sources(flags);
        let loaded = settings::load(&sources, Role::Control)?;
        start_log(&loaded.settings.log, "info")?;
        block_on(serve(sources, loaded))
    }
}

async fn serve(sources: Sources, loaded: Loaded) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::new());
    let settings = loaded.settings.clone();
    let section = settings.ingest.clone();
    let postgres = pod::postgres(&settings)?;
    let listener = listen(section.listen, &LISTEN).await?;
    let rabbitmq = settings.broker.rabbitmq(BrokerRole::Control)?;
    let queue = management::Queue::rabbitmq(rabbitmq, metrics.clone())?;
    let broker = queue.broker.clone();
    let signals = signals(&section.settings);
    let mut tasks = alive(&signals, &broker)?;
    let opening = Opening::new(&listener, scheme(&section.settings))?;
    let waiting = Waiting {
        why: opening.why(),
        metrics: metrics.clone(),
        has_tokens: true,
    };
    let front = Front::open(section.settings, waiting, listener, signals.stop.clone()).await?;
    let (watch, in_file) = Watch::new(sources, Role::Control, loaded, metrics.clone());
    // The API can do nothing with a snapshot.
    let pod = pod::open(&settings, in_file, None, &opening, &signals);
    let Some(pod) = front.beside(pod).await? else {
        broker.shut_down().await;
        return Ok(());
    };
    let history: Option<Arc<dyn History>> = match settings.store.history {
        true => Some(Arc::new(PostgresHistory::later(postgres)?)),
        false => None,
    };
    let (api, recovery) = pod.api(&settings, history.clone(), queue, metrics.clone())?;
    let registry = pod.loaded.followed.registry.clone();
    let is_current = pod.loaded.followed.is_current.clone();
    let catalog = pod.loaded.catalog.clone();
    let watch = watch.taken_by(pod.loaded.followed.base.clone());
    tasks.spawn(watch.follow(signals.reload.clone(), signals.stop.clone()));
    let telling = pod.follow("control", &mut tasks, &signals).await;
    let records = recording::start(
        "control",
        &settings,
        recording::Parts {
            catalog,
            history,
            broker: broker.clone(),
            registry: registry.clone(),
            metrics: metrics.clone(),
        },
        &mut tasks,
        &signals,
    );
    recording::recover(recovery, api.clone(), &mut tasks, &signals);
    let shelves = shelves::until_the_stop(api.clone(), &mut tasks, &signals);
    let ports = Ports {
        broker: broker.clone(),
        records,
        ids: Some(Arc::new(PostgresPublished::new(postgres)?)),
        registry,
        is_current,
        metrics,
        read_token: Some(management::read_token(api.clone())),
        routes: hooklane_api::router(api),
    };
    opening.is_over()?;
    let service = front.run(ports).map(Ok::<_, anyhow::Error>);
    let result = run_beside(service, tasks, &signals).await;
    shelves.ended().await;
    telling.ended().await;
    broker.shut_down().await;
    result
}
