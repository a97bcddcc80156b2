//! Hears of others' changes: `LISTEN` on a connection of its own, and a look each second, which finds what a notification missed and that the
//! connection is dead.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_postgres::{AsyncMessage, Client, Config, Connection};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::{info, warn};

use super::newest::Newest;
use crate::catalog::Revision;
use crate::postgres::error::{Fault, PostgresError};
use crate::postgres::settings::PostgresSettings;
use crate::postgres::tls;

/// A change that was not heard of is seen this much later.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A look that takes longer ends the connection.
const LOOK_MAX: Duration = Duration::from_millis(1_500);
/// Between a lost connection and the next one.
const AGAIN_AFTER: Duration = Duration::from_millis(250);

pub(super) struct Follow {
    config: Config,
    connector: MakeRustlsConnect,
    connect_max: Duration,
    channel: String,
    newest: Arc<Newest>,
    /// Whether others' changes are heard of.
    heard: watch::Sender<bool>,
    is_away: bool,
}

impl Follow {
    pub(super) fn new(
        settings: &PostgresSettings,
        channel: &str,
        newest: Arc<Newest>,
        heard: watch::Sender<bool>,
    ) -> Result<Follow, PostgresError> {
        let mut config = settings.complete();
        config.application_name("hooklane listen");
        Ok(Follow {
            config,
            connector: tls::connector(&settings.tls)?,
            connect_max: settings.connect_max,
            channel: channel.to_owned(),
            newest,
            heard,
            is_away: false,
        })
    }

    /// For ever.
    pub(super) async fn run(mut self) {
        loop {
            let fault = self.listen().await;
            self.hears(false);
            if !std::mem::replace(&mut self.is_away, true) {
                warn!("changes to the store are not heard of until it answers again: {fault}");
            }
            sleep(AGAIN_AFTER).await;
        }
    }

    /// Until the connection is lost.
    async fn listen(&mut self) -> Fault {
        let connected = timeout(self.connect_max, self.config.connect(self.connector.clone())).await;
        let (client, mut connection) = match connected {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => return error.into(),
            Err(_) => return Fault::Late(self.connect_max),
        };
        let (channel, newest) = (self.channel.clone(), self.newest.clone());
        tokio::select! {
            // The connection does nothing unless it is driven.
            fault = hear(&mut connection, &channel, &newest) => fault,
            fault = self.look(&client) => fault,
        }
    }

    /// Looks each second.
    async fn look(&mut self, client: &Client) -> Fault {
        let listen = format!("LISTEN {}", self.channel);
        let look = async |sql: &str| match timeout(LOOK_MAX, client.batch_execute(sql)).await {
            Ok(done) => done.map_err(Fault::Server),
            Err(_) => Err(Fault::Late(LOOK_MAX)),
        };
        if let Err(fault) = look(&listen).await {
            return fault;
        }
        loop {
            let before = self.newest.get();
            let found = client.query_one("SELECT revision FROM catalog", &[]);
            let found = match timeout(LOOK_MAX, found).await {
                Ok(row) => row.and_then(|row| row.try_get(0)),
                Err(_) => return Fault::Late(LOOK_MAX),
            };
            match found {
                Ok(revision) => self.newest.found(revision_of(revision), before),
                Err(error) => return error.into(),
            }
            self.hears(true);
            if std::mem::replace(&mut self.is_away, false) {
                info!("changes to the store are heard of again");
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn hears(&self, is_heard: bool) {
        self.heard
            .send_if_modified(|heard| std::mem::replace(heard, is_heard) != is_heard);
    }
}

/// Drives the connection, and takes what others notify.
async fn hear<S, T>(connection: &mut Connection<S, T>, channel: &str, newest: &Newest) -> Fault
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        match poll_fn(|context| connection.poll_message(context)).await {
            Some(Ok(AsyncMessage::Notification(told))) if told.channel() == channel => {
                // Whatever else somebody writes there is none of ours.
                if let Ok(revision) = told.payload().parse() {
                    newest.raise(Revision(revision));
                }
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return error.into(),
            None => return Fault::NoConnection("the server has closed it".to_owned()),
        }
    }
}

fn revision_of(revision: i64) -> Revision {
    Revision(u64::try_from(revision).unwrap_or_default())
}
