//! Servers that do not speak proper HTTP.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A server that does the same with every connection, until it is dropped.
pub struct RawServer {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl RawServer {
    pub async fn start<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> RawServer
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
        RawServer { address, task }
    }

    /// Answers every connection with these bytes after its first bytes came, and closes.
    pub async fn saying(bytes: &'static [u8]) -> RawServer {
        RawServer::start(move |mut stream| async move {
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(bytes).await;
        })
        .await
    }

    /// Answers byte by byte, for ever, with a head that never ends.
    pub async fn dribbling(every: Duration) -> RawServer {
        RawServer::start(move |mut stream| async move {
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await;
            let mut said = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await;
            while said.is_ok() {
                tokio::time::sleep(every).await;
                said = stream.write_all(b"a").await;
            }
        })
        .await
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
