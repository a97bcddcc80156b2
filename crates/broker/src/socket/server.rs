//! The serving end.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::wire::{Failure, Head, Heard, Request, ShelfRequest, Wire};
use crate::port::{Outgoing, SharedBroker};
use crate::shelf::{Handle, Holder, Shelf, ShelfName, Shelves};

/// Connections at once; more wait in the listener's backlog.
const CONNECTIONS_MAX: usize = 1_024;
/// After an accept that failed the next one waits this long.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Serves `broker` and `shelves` to whoever may open the socket, until `stop`. Who may is decided by the mode of its file.
pub async fn serve(
    listener: UnixListener,
    broker: SharedBroker,
    shelves: Arc<dyn Shelves>,
    stop: CancellationToken,
) {
    let connections = TaskTracker::new();
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let next = async {
            let permit = permits.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = stop.cancelled() => break,
            next = next => next,
        };
        match accepted {
            Ok((stream, _)) => {
                let (broker, shelves, stop) = (broker.clone(), shelves.clone(), stop.clone());
                connections.spawn(async move {
                    let _permit = permit;
                    tokio::select! {
                        () = stop.cancelled() => {}
                        served = connection(stream, broker, &*shelves) => {
                            if let Err(error) = served {
                                tracing::debug!(%error, "a connection to the admin socket ended early");
                            }
                        }
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the admin socket");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
}

async fn connection(stream: UnixStream, broker: SharedBroker, shelves: &dyn Shelves) -> io::Result<()> {
    let mut wire = Wire::new(stream);
    match wire.receive().await? {
        Request::Publish {
            to,
            properties,
            within_ms,
        } => {
            let body = wire.receive_bytes().await?;
            let message = Outgoing {
                properties: *properties,
                body,
            };
            let published = broker
                .publish(to, message, Duration::from_millis(within_ms))
                .await;
            wire.send(&published).await
        }
        Request::Depth(queue) => wire.send(&broker.depth(queue).await).await,
        Request::DelayDepths => wire.send(&broker.delay_depths().await).await,
        Request::Listen => listen(&mut wire, broker).await,
        Request::Shelf(name, holder) => shelf(&mut wire, shelves, name, holder).await,
    }
}

async fn listen(wire: &mut Wire, broker: SharedBroker) -> io::Result<()> {
    let mut heard = broker.listen();
    wire.send(&Heard).await?;
    loop {
        let incoming = tokio::select! {
            () = wire.closed() => return Ok(()),
            incoming = heard.next() => incoming,
        };
        let Some(incoming) = incoming else {
            return Ok(());
        };
        let (head, body) = Head::of(incoming.message);
        wire.send(&head).await?;
        wire.send_bytes(body).await?;
        // Soft state: one that was not acked is no loss.
        let _ = incoming.ack.ack().await;
    }
}

async fn shelf(wire: &mut Wire, shelves: &dyn Shelves, name: ShelfName, holder: Holder) -> io::Result<()> {
    let mut open = match shelves.open(name, holder).await {
        Ok(open) => open,
        Err(error) => return wire.send(&Err::<u64, Failure>(error.into())).await,
    };
    let served = match wire.send(&Ok::<u64, Failure>(open.total())).await {
        Ok(()) => read(wire, &mut *open).await,
        Err(error) => Err(error),
    };
    // However the reading ended, what was not removed goes back in order.
    let closed = open.close().await.map_err(Failure::from);
    match served {
        Ok(()) => wire.send(&closed).await,
        Err(error) => Err(error),
    }
}

/// Answers until the reader is done.
async fn read(wire: &mut Wire, open: &mut dyn Shelf) -> io::Result<()> {
    let mut handles: HashMap<u64, Handle> = HashMap::new();
    let mut count = 0;
    loop {
        match wire.receive().await? {
            ShelfRequest::Next => match open.next().await {
                Ok(Some(shelved)) => {
                    handles.insert(count, shelved.handle);
                    count += 1;
                    let (head, body) = Head::of(shelved.message);
                    wire.send(&Ok::<_, Failure>(Some(head))).await?;
                    wire.send_bytes(body).await?;
                }
                Ok(None) => wire.send(&Ok::<Option<Head>, Failure>(None)).await?,
                Err(error) => wire.send(&Err::<Option<Head>, _>(Failure::from(error))).await?,
            },
            ShelfRequest::Remove(number) => {
                let removed = match handles.remove(&number) {
                    Some(handle) => open.remove(handle).await.map_err(Failure::from),
                    None => Err(Failure::Lost(format!("there is no message {number} to remove"))),
                };
                wire.send(&removed).await?;
            }
            ShelfRequest::Close => return Ok(()),
        }
    }
}
