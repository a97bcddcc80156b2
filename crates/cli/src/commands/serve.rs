//! `hooklane serve`: ingest and dispatcher in one process, on a queue of its own.

use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use futures_util::{FutureExt, TryFutureExt};
use hooklane_dispatcher::Ports;
use hooklane_egress::Client;
use hooklane_ingest::{Front, Waiting};
use hooklane_telemetry::Metrics;

use super::flags::{SettingsFlags, StoreFlags, flag, start_log};
use super::ingest::{LISTEN, scheme, signals};
use super::management::Beginning;
use super::opening::Opening;
use super::reach::{SERVE, embedded, open_with_claims};
use super::service::{alive, listen, run_beside};
use super::{admin_socket, block_on, key_socket, management, recording, shelves, usage};
use crate::settings::watch::Watch;
use crate::settings::{self, Loaded, Role, Sources};

#[derive(Args)]
pub struct Serve {
    #[command(flatten)]
    settings: SettingsFlags,
    #[command(flatten)]
    store: StoreFlags,
    /// Where to take events, and where /metrics, /healthz and /readyz are [default: 127.0.0.1:8071]; port 0 takes a free one, and the
    /// line printed names it
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where the queue is kept [default: hooklane-data]
    #[arg(long, value_name = "DIRECTORY")]
    data: Option<String>,
}

impl Serve {
    /// Serves until SIGTERM or SIGINT.
    pub fn run(self) -> anyhow::Result<()> {
        let flags = vec![
            self.store.flag(),
            flag("--listen", "ingest.listen", self.listen.as_ref()),
            flag("--data", "embedded.data_dir", self.data.as_ref()),
        ];
        let sources = self.settings.sources(flags);
        let loaded = settings::load(&sources, Role::Serve)?;
        if loaded.settings.broker.url.is_some() {
            return Err(usage(
                "a broker is set, and `hooklane serve` has a queue of its own: take `url` out of [broker] and HOOKLANE_BROKER__URL out of the \
                 environment, or run `hooklane ingest` and `hooklane dispatcher` on that broker",
            ));
        }
        start_log(&loaded.settings.log, "info")?;
        block_on(serve(sources, loaded))
    }
}

async fn serve(sources: Sources, loaded: Loaded) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::new());
    let ingest = loaded.settings.ingest.clone();
    let mut dispatcher = loaded.settings.dispatcher.clone();
    dispatcher.settings.is_alone = true;
    let listener = listen(ingest.listen, &LISTEN).await?;
    let client = Client::new(loaded.settings.egress.clone(), metrics.clone())
        .context("[egress] does not make a client")?;
    let data_dir = loaded.settings.embedded.data_dir.clone();
    // Refused before anything is made.
    let socket = admin_socket::path(&data_dir)?;
    let key_socket = key_socket::path(&data_dir)?;
    let opens = embedded(&loaded.settings, SERVE, metrics.clone())?;
    let (queue, claims) = open_with_claims(opens, dispatcher.claim_entries_max).await?;
    let (broker, claims) = (queue.shared(), Arc::new(claims));
    let settings = loaded.settings.clone();
    let signals = signals(&ingest.settings);
    let mut tasks = alive(&signals, &broker)?;
    let opening = Opening::new(&listener, scheme(&ingest.settings))?;
    let waiting = Waiting {
        why: opening.why(),
        metrics: metrics.clone(),
        has_tokens: true,
    };
    let front = Front::open(ingest.settings, waiting, listener, signals.stop.clone()).await?;
    let (watch, in_file) = Watch::new(sources, Role::Serve, loaded, metrics.clone());
    let admin = admin_socket::listen(&socket)?;
    let serving =
        hooklane_broker::socket::serve(admin, broker.clone(), queue.shelves(), signals.stop.clone());
    tasks.spawn(async move {
        serving.await;
        Ok(())
    });
    let beginning = Beginning {
        base: in_file,
        opening: &opening,
        signals: &signals,
    };
    let at_queue = management::Queue {
        broker: broker.clone(),
        shelves: queue.shelves(),
    };
    let management = management::open(&settings, beginning, &mut tasks, at_queue, metrics.clone());
    let Some(management) = front.beside(management).await? else {
        let _ = std::fs::remove_file(socket);
        claims.shut_down().await;
        broker.shut_down().await;
        return Ok(());
    };
    let registry = management.followed.registry;
    let is_current = management.followed.is_current;
    let watch = watch.taken_by(management.followed.base);
    tasks.spawn(watch.follow(signals.reload.clone(), signals.stop.clone()));
    let keys = admin_socket::listen(&key_socket)?;
    tasks.spawn(management.following.map(Ok));
    let records = recording::start(
        "serve",
        &settings,
        recording::Parts {
            catalog: management.catalog.clone(),
            history: management.history,
            broker: broker.clone(),
            registry: registry.clone(),
            metrics: metrics.clone(),
        },
        &mut tasks,
        &signals,
    );
    recording::recover(management.recovery, management.api.clone(), &mut tasks, &signals);
    let shelves = shelves::until_the_stop(management.api.clone(), &mut tasks, &signals);
    let keys = key_socket::serve(keys, management.api.clone(), signals.stop.clone());
    tasks.spawn(async move {
        keys.await;
        Ok(())
    });
    let ports = hooklane_ingest::Ports {
        broker: broker.clone(),
        records: records.clone(),
        ids: Some(claims.clone()),
        registry: registry.clone(),
        is_current: is_current.clone(),
        metrics: metrics.clone(),
        read_token: Some(management::read_token(management.api.clone())),
        routes: hooklane_api::router(management.api),
    };
    opening.is_over()?;
    let takes = front.run(ports);
    let delivers = hooklane_dispatcher::run(
        dispatcher.settings,
        Ports {
            broker: broker.clone(),
            client,
            claims: claims.clone(),
            registry,
            is_current,
            records,
            metrics,
        },
        signals.shutdown(),
    );
    let both = async { tokio::try_join!(takes.map(Ok), delivers.map_err(anyhow::Error::new)).map(|_| ()) };
    let result = run_beside(both, tasks, &signals).await;
    shelves.ended().await;
    // While the lock is still ours. One that stays is refused, and found out by that.
    for socket in [socket, key_socket] {
        let _ = std::fs::remove_file(socket);
    }
    claims.shut_down().await;
    broker.shut_down().await;
    result
}
