//! `hooklane dispatcher`

use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use hooklane_broker::rabbitmq::{RabbitMq, Role as BrokerRole};
use hooklane_broker::{RecordWriter, SharedBroker};
use hooklane_dispatcher::Ports;
use hooklane_egress::Client;
use hooklane_store::ProcessClaims;
use hooklane_telemetry::{Metrics, operations_router};
use tokio::net::TcpListener;

use super::block_on;
use super::flags::{BrokerFlags, SettingsFlags, flag, start_log};
use super::service::{ListenSetting, Signals, announce, essentials, listen, readiness, run_beside};
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
    /// Where /metrics, /healthz and /readyz are served [default: 127.0.0.1:8072]; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
}

impl Dispatcher {
    /// Delivers until SIGTERM or SIGINT.
    pub fn run(self) -> anyhow::Result<()> {
        let flags = vec![
            self.broker.flag(),
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
    let section = loaded.settings.dispatcher.clone();
    let listener = listen(section.listen, &LISTEN).await?;
    let client = Client::new(loaded.settings.egress.clone(), metrics.clone())
        .context("[egress] does not make a client")?;
    let rabbitmq = loaded.settings.broker.rabbitmq(BrokerRole::Dispatcher)?;
    let broker: SharedBroker = RabbitMq::start(rabbitmq, metrics.clone())?;
    let signals = Signals::default();
    let (watch, registry) = Watch::new(sources, Role::Dispatcher, loaded, metrics.clone());
    let mut tasks = essentials(&signals, &broker, watch)?;
    announce(&listener, "http")?;
    tasks.spawn(operations(
        listener,
        broker.clone(),
        metrics.clone(),
        signals.clone(),
    ));
    let service = hooklane_dispatcher::run(
        section.settings,
        Ports {
            broker: broker.clone(),
            client,
            claims: Arc::new(ProcessClaims::new(section.claim_entries_max)),
            registry,
            records: RecordWriter::off(),
            metrics,
        },
        signals.shutdown(),
    );
    let result = run_beside(service, tasks, &signals).await;
    broker.shut_down().await;
    result
}

/// Serves metrics and health until the process ends, the time in which it finishes its work included.
async fn operations(
    listener: TcpListener,
    broker: SharedBroker,
    metrics: Arc<Metrics>,
    signals: Signals,
) -> anyhow::Result<()> {
    let ready = Arc::new(move || readiness(&broker, &signals.stop));
    axum::serve(listener, operations_router(metrics, ready))
        .await
        .context("the listener for metrics broke down")
}
