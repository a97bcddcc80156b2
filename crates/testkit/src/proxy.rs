//! A TCP proxy that breaks the network: cuts, half-open connections, delays.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::ports::Port;

const BUFFER_BYTES: usize = 64 * 1024;
/// After an accept that failed.
const ACCEPT_RETRY: Duration = Duration::from_millis(20);
/// Listening again on the port of ours may fail for a moment, while old sockets go.
const LISTEN_RETRY: Duration = Duration::from_millis(10);

/// A proxy in front of one TCP server. Dropping it ends its connections.
pub struct Proxy {
    address: SocketAddr,
    network: watch::Sender<Network>,
    /// Whether the port listens; goes back and forth with `cut` and `restore`.
    listening: watch::Receiver<bool>,
    opened: Arc<AtomicU64>,
    tasks: TaskTracker,
    _stop: DropGuard,
    _port: Port,
}

/// The state of the network between client and target.
#[derive(Clone, Copy, Debug, Default)]
struct Network {
    frozen: bool,
    refusing: bool,
    delay: Duration,
    /// Connections of an earlier generation are reset.
    generation: u64,
    /// Connections up to this number are silent.
    stranded: u64,
}

impl Network {
    /// Whether data of the connection with this number goes on.
    fn forwards(&self, number: u64) -> bool {
        !self.frozen && number > self.stranded
    }
}

impl Proxy {
    /// Starts a proxy to a target (`host:port`) on a port of its own of 127.0.0.1.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(target: &str) -> Result<Proxy> {
        let port = Port::lease()?;
        let address = SocketAddr::from(([127, 0, 0, 1], port.number()));
        let listener = TcpListener::bind(address).await.context("cannot listen")?;
        let network = watch::Sender::new(Network::default());
        let (listens, listening) = watch::channel(true);
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let opened = Arc::new(AtomicU64::new(0));
        let acceptor = Acceptor {
            address,
            target: target.into(),
            network: network.subscribe(),
            listens,
            opened: opened.clone(),
            tasks: tasks.clone(),
            stop: stop.clone(),
        };
        tasks.spawn(async move {
            let stop = acceptor.stop.clone();
            stop.run_until_cancelled(acceptor.run(listener)).await;
        });
        Ok(Proxy {
            address,
            network,
            listening,
            opened,
            tasks,
            _stop: stop.drop_guard(),
            _port: port,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resets all connections, and refuses new ones until [`Proxy::restore`].
    pub async fn cut(&self) {
        self.change(|network| {
            network.refusing = true;
            network.generation += 1;
        });
        self.wait_listening(false).await;
    }

    /// Resets all connections; new ones work.
    pub fn reset_connections(&self) {
        self.change(|network| network.generation += 1);
    }

    /// Half-open: accepts and holds connections, but forwards nothing, either way, not even their end.
    pub fn freeze(&self) {
        self.change(|network| network.frozen = true);
    }

    /// Leaves the connections of now half-open for good, as a firewall does that has forgotten them; new ones work.
    pub fn strand(&self) {
        let opened = self.connections_opened();
        self.change(|network| network.stranded = opened);
    }

    /// Holds every piece of data this long, each way.
    pub fn delay(&self, delay: Duration) {
        self.change(|network| network.delay = delay);
    }

    /// Ends cut, freeze and delay. What a freeze held goes on; what is stranded stays so.
    pub async fn restore(&self) {
        self.change(|network| {
            *network = Network {
                generation: network.generation,
                stranded: network.stranded,
                ..Network::default()
            };
        });
        self.wait_listening(true).await;
    }

    /// How many connections were accepted so far.
    pub fn connections_opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// How many connections there are now.
    pub fn connections(&self) -> usize {
        // One task is the acceptor.
        self.tasks.len().saturating_sub(1)
    }

    fn change(&self, change: impl FnOnce(&mut Network)) {
        self.network.send_modify(change);
    }

    async fn wait_listening(&self, state: bool) {
        // An error means that the acceptor is gone with its runtime: nothing listens any more.
        self.listening
            .clone()
            .wait_for(|listening| *listening == state)
            .await
            .ok();
    }
}

struct Acceptor {
    address: SocketAddr,
    target: Arc<str>,
    network: watch::Receiver<Network>,
    listens: watch::Sender<bool>,
    opened: Arc<AtomicU64>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Acceptor {
    async fn run(mut self, listener: TcpListener) {
        let mut listener = Some(listener);
        loop {
            let refusing = self.network.borrow_and_update().refusing;
            match listener.take() {
                // A closed port refuses, as a machine does whose server is down.
                Some(open) if refusing => {
                    drop(open);
                    self.listens.send_replace(false);
                }
                None if !refusing => match TcpListener::bind(self.address).await {
                    Ok(open) => {
                        listener = Some(open);
                        self.listens.send_replace(true);
                    }
                    Err(_) => tokio::time::sleep(LISTEN_RETRY).await,
                },
                Some(open) => {
                    self.accept(&open).await;
                    listener = Some(open);
                }
                None => {
                    if self.network.changed().await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Accepts until the network changes.
    async fn accept(&mut self, listener: &TcpListener) {
        loop {
            let accepted = tokio::select! {
                _ = self.network.changed() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((client, _)) = accepted else {
                // Out of file descriptors, as a rule.
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            };
            let number = self.opened.fetch_add(1, Ordering::Relaxed) + 1;
            let (target, network, stop) = (self.target.clone(), self.network.clone(), self.stop.clone());
            self.tasks.spawn(async move {
                stop.run_until_cancelled(connection(client, number, &target, network))
                    .await;
            });
        }
    }
}

/// Forwards one connection until both sides have ended or the network resets it.
async fn connection(mut client: TcpStream, number: u64, target: &str, mut network: watch::Receiver<Network>) {
    let generation = network.borrow().generation;
    let Ok(mut server) = TcpStream::connect(target).await else {
        return reset(&client);
    };
    // Small packets must not wait for each other: the proxy is to add only what the test asks for.
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let mut upwards = network.clone();
    let mut downwards = network.clone();
    let ended = {
        let (client_read, client_write) = client.split();
        let (server_read, server_write) = server.split();
        tokio::select! {
            _ = network.wait_for(|network| network.generation != generation) => Err(()),
            ended = async {
                tokio::try_join!(
                    pump(client_read, server_write, &mut upwards, number),
                    pump(server_read, client_write, &mut downwards, number),
                )
            } => ended.map(drop).map_err(drop),
        }
    };
    if ended.is_err() {
        reset(&client);
        reset(&server);
    }
}

/// Makes the end of a socket a RST.
fn reset(socket: &TcpStream) {
    // It fails only for a socket that is gone.
    SockRef::from(socket).set_linger(Some(Duration::ZERO)).ok();
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    network: &mut watch::Receiver<Network>,
    number: u64,
) -> Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let delay = network.wait_for(|network| network.forwards(number)).await?.delay;
        let read = tokio::select! {
            changed = network.changed() => {
                changed?;
                continue;
            }
            read = from.read(&mut buffer) => read?,
        };
        tokio::time::sleep(delay).await;
        // A freeze may have come while this was on its way.
        network.wait_for(|network| network.forwards(number)).await?;
        if read == 0 {
            return Ok(to.shutdown().await?);
        }
        to.write_all(&buffer[..read]).await?;
    }
}
