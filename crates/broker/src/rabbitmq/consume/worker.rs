//! The life of a subscription: it subscribes, watches over the channel until that has to go, and begins again.

use std::sync::Arc;
use std::time::Duration;

use lapin::options::BasicQosOptions;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::super::session::{Buffer, Finding};
use super::super::supervisor::Live;
use super::open::{self, Open};
use super::{Command, Source, Worker};

/// Channel, queue, qos and consume are four round trips.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(15);
/// Messages in a row that must be small before the full prefetch is tried again.
const SMALL_IN_A_ROW: u32 = 1_000;

/// When the task ends, by a panic too, whoever waits for messages is told.
struct Closing(Arc<Buffer>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What a subscription does next.
pub(super) enum Next {
    Subscribe,
    After(Duration),
    Paused,
    Stop,
}

/// Why a channel is given up.
pub(super) enum End {
    Lost,
    Found(Finding),
    Pause {
        grace: Duration,
        done: oneshot::Sender<()>,
    },
    Stop,
}

impl Worker {
    pub(super) async fn run(mut self) {
        let _closing = Closing(self.buffer.clone());
        let mut next = Next::Subscribe;
        loop {
            next = match next {
                Next::Subscribe => self.subscribe().await,
                Next::After(pause) => self.idle(Some(pause)).await,
                Next::Paused => self.idle(None).await,
                Next::Stop => break,
            };
        }
    }

    pub(super) fn name(&self) -> &str {
        match &self.source {
            Source::Queue(name) => name,
            Source::Control => "control",
        }
    }

    /// Without a channel, until the pause is over; without a pause, until told.
    async fn idle(&mut self, pause: Option<Duration>) -> Next {
        let stop = self.stop.clone();
        let over = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => Next::Stop,
            () = over => Next::Subscribe,
            command = self.commands.recv() => without_channel(command),
        }
    }

    async fn subscribe(&mut self) -> Next {
        let (stop, ledger) = (self.stop.clone(), self.ledger.clone());
        let mut link = self.link.clone();
        let ready = async {
            // What was in hand on the last channel may still be held by whoever works on it.
            while !ledger.has_room() {
                ledger.released.notified().await;
            }
            link.live().await
        };
        let live = tokio::select! {
            () = stop.cancelled() => return Next::Stop,
            command = self.commands.recv() => return without_channel(command),
            live = ready => live,
        };
        let Some(live) = live else { return Next::Stop };
        let opening = timeout(SUBSCRIBE_TIMEOUT, self.open(&live));
        let opened = match stop.run_until_cancelled(opening).await {
            None => return Next::Stop,
            Some(Err(_)) => Err(format!("no answer within {} s", SUBSCRIBE_TIMEOUT.as_secs())),
            Some(Ok(Err(error))) => {
                if error.is_amqp_soft_error() {
                    self.shared.mend(&live).await;
                }
                Err(error.to_string())
            }
            Some(Ok(Ok(open))) => Ok(open),
        };
        match opened {
            Err(why) => {
                let pause = self.pauses.next();
                if live.lost.is_cancelled() {
                    debug!(queue = self.name(), "not subscribed: {why}");
                } else {
                    warn!(
                        queue = self.name(),
                        "not subscribed, next try in {} ms: {why}",
                        pause.as_millis()
                    );
                }
                Next::After(pause)
            }
            Ok(mut open) => {
                debug!(queue = self.name(), prefetch = self.prefetch, "subscribed");
                let end = self.attend(&live, &mut open).await;
                self.finish(end, &live, open).await
            }
        }
    }

    /// Watches over a channel until it has to go.
    async fn attend(&mut self, live: &Live, open: &mut Open) -> End {
        let stop = self.stop.clone();
        loop {
            if let Some(finding) = open.session.finding() {
                return if live.lost.is_cancelled() {
                    End::Lost
                } else {
                    End::Found(finding)
                };
            }
            if self.prefetch < self.prefetch_full && open.session.small_in_a_row() >= SMALL_IN_A_ROW {
                let trouble = match timeout(SUBSCRIBE_TIMEOUT, self.raise_prefetch(open)).await {
                    Ok(Ok(())) => continue,
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "the full prefetch could not be asked for".to_owned(),
                };
                return End::Found(Finding::Ended(trouble));
            }
            tokio::select! {
                () = stop.cancelled() => return End::Stop,
                () = live.lost.cancelled() => return End::Lost,
                () = open.session.changed.notified() => {}
                command = self.commands.recv() => match command {
                    None => return End::Stop,
                    Some(Command::Resume) => {}
                    Some(Command::Pause { grace, done }) => return End::Pause { grace, done },
                }
            }
        }
    }

    /// A second consumer with the full prefetch takes over on the same channel, so that nothing has to be given back.
    async fn raise_prefetch(&mut self, open: &mut Open) -> lapin::Result<()> {
        open.channel
            .basic_qos(self.prefetch_full, BasicQosOptions { global: false })
            .await?;
        let (fuller, retired) = open::consumer(&open.channel, &open.queue, &open.session, false).await?;
        open::cancel(open).await?;
        (open.consumer, open.retired) = (fuller, retired);
        self.prefetch = self.prefetch_full;
        self.ledger.forget_largest();
        info!(
            queue = self.name(),
            prefetch = self.prefetch,
            "messages are small again: full prefetch"
        );
        Ok(())
    }
}

fn without_channel(command: Option<Command>) -> Next {
    match command {
        None => Next::Stop,
        Some(Command::Resume) => Next::Subscribe,
        Some(Command::Pause { done, .. }) => {
            // Nobody waits any more: it is paused all the same.
            let _ = done.send(());
            Next::Paused
        }
    }
}
