use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpStream;

use super::site::Base;
use crate::child::Child;
use crate::eventually::eventually;
use crate::ports::Port;

const LISTENING_MAX: Duration = Duration::from_secs(30);

/// The name server of one cluster. Started by us in the foreground: one that a node starts would become a daemon and outlive it.
pub(crate) struct Epmd {
    _child: Child,
    _port: Port,
}

impl Epmd {
    pub(crate) async fn start(base: &Base, port: Port) -> Result<Epmd> {
        let number = port.number();
        let mut command = base.program(Path::new("/usr/bin/epmd"));
        command.args(["-port", &number.to_string(), "-address", "127.0.0.1"]);
        let child = Child::spawn(command)?;
        eventually("epmd to listen", LISTENING_MAX, || async move {
            TcpStream::connect(("127.0.0.1", number))
                .await
                .context("nobody listens")
                .map(drop)
        })
        .await
        .with_context(|| child.output().tail())?;
        Ok(Epmd {
            _child: child,
            _port: port,
        })
    }
}
