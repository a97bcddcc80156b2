//! A process that waits at its start: it says where it listens, and there why it waits.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::service::announce;

/// The start of a process, as others see it.
pub struct Opening {
    address: SocketAddr,
    scheme: &'static str,
    is_announced: AtomicBool,
    why: watch::Sender<Option<String>>,
}

impl Opening {
    /// Of a process that listens here.
    pub fn new(listener: &TcpListener, scheme: &'static str) -> anyhow::Result<Opening> {
        Ok(Opening {
            address: listener.local_addr().context("the listener has no address")?,
            scheme,
            is_announced: AtomicBool::new(false),
            why: watch::Sender::new(Some("it begins".to_owned())),
        })
    }

    /// It waits for the store: from now on it can be asked why.
    pub fn waits(&self, why: &str) -> anyhow::Result<()> {
        self.why
            .send_replace(Some(format!("waiting for the store: {why}")));
        self.announce()
    }

    /// It has what it works with.
    pub fn is_over(&self) -> anyhow::Result<()> {
        self.why.send_replace(None);
        self.announce()
    }

    /// Why it waits, followed; none once it is over.
    pub fn why(&self) -> watch::Receiver<Option<String>> {
        self.why.subscribe()
    }

    /// Once.
    fn announce(&self) -> anyhow::Result<()> {
        match self.is_announced.swap(true, Ordering::Relaxed) {
            true => Ok(()),
            false => announce(self.address, self.scheme),
        }
    }
}
