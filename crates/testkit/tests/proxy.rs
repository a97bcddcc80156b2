//! The faulty proxy, in front of an echo server.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hooklane_testkit::eventually;
use hooklane_testkit::proxy::Proxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};

const WAIT: Duration = Duration::from_secs(20);
/// Long enough for an echo on loopback to have come, if it were to come.
const SILENCE: Duration = Duration::from_millis(300);

async fn echo_server() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                copy(&mut read, &mut write).await.ok();
                write.shutdown().await.ok();
            });
        }
    });
    Ok(address)
}

async fn echo(stream: &mut TcpStream, text: &[u8]) -> Result<()> {
    stream.write_all(text).await?;
    let mut answer = vec![0; text.len()];
    tokio::time::timeout(WAIT, stream.read_exact(&mut answer)).await??;
    ensure!(answer == text);
    Ok(())
}

#[tokio::test]
async fn forwards_both_ways_and_the_end_of_a_stream_too() -> Result<()> {
    // Goal: a healthy proxy is invisible. Method: a megabyte through an echo server, then a half-close.
    let proxy = Proxy::start(&echo_server().await?.to_string()).await?;
    let stream = TcpStream::connect(proxy.address()).await?;
    let (mut read, mut write) = stream.into_split();
    let sent: Vec<u8> = (0..1_000_000_u32).map(|byte| byte as u8).collect();
    let expected = sent.clone();
    let sending = tokio::spawn(async move {
        write.write_all(&sent).await?;
        write.shutdown().await
    });
    let mut received = Vec::new();
    tokio::time::timeout(WAIT, read.read_to_end(&mut received)).await??;
    sending.await??;
    ensure!(received == expected);
    ensure!(proxy.connections_opened() == 1);
    eventually("the connection to end", WAIT, || async {
        ensure!(proxy.connections() == 0, "{} connections", proxy.connections());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_cut_resets_connections_and_refuses_new_ones_until_restored() -> Result<()> {
    // Goal: cut is a RST and a closed port, and restore takes it back.
    let proxy = Proxy::start(&echo_server().await?.to_string()).await?;
    let mut stream = TcpStream::connect(proxy.address()).await?;
    echo(&mut stream, b"before").await?;
    proxy.cut().await;
    let error = tokio::time::timeout(WAIT, stream.read_u8())
        .await?
        .err()
        .map(|error| error.kind());
    ensure!(error == Some(std::io::ErrorKind::ConnectionReset), "{error:?}");
    let refused = TcpStream::connect(proxy.address())
        .await
        .err()
        .map(|error| error.kind());
    ensure!(
        refused == Some(std::io::ErrorKind::ConnectionRefused),
        "{refused:?}"
    );
    proxy.restore().await;
    echo(&mut TcpStream::connect(proxy.address()).await?, b"after").await
}

#[tokio::test]
async fn a_reset_ends_connections_and_lets_new_ones_in() -> Result<()> {
    // Goal: reset_connections hits the old connections only.
    let proxy = Proxy::start(&echo_server().await?.to_string()).await?;
    let mut old = TcpStream::connect(proxy.address()).await?;
    echo(&mut old, b"before").await?;
    proxy.reset_connections();
    let error = tokio::time::timeout(WAIT, old.read_u8())
        .await?
        .err()
        .map(|error| error.kind());
    ensure!(error == Some(std::io::ErrorKind::ConnectionReset), "{error:?}");
    echo(&mut TcpStream::connect(proxy.address()).await?, b"after").await
}

#[tokio::test]
async fn a_freeze_forwards_nothing_and_accepts_all_and_thaws() -> Result<()> {
    // Goal: half-open means silence without an error, for old and new connections. Method: write, see nothing, restore, see the echo.
    let proxy = Proxy::start(&echo_server().await?.to_string()).await?;
    let mut old = TcpStream::connect(proxy.address()).await?;
    echo(&mut old, b"before").await?;
    proxy.freeze();
    let mut new = TcpStream::connect(proxy.address()).await?;
    for stream in [&mut old, &mut new] {
        stream.write_all(b"x").await?;
        ensure!(
            tokio::time::timeout(SILENCE, stream.read_u8()).await.is_err(),
            "something came through"
        );
    }
    proxy.restore().await;
    for stream in [&mut old, &mut new] {
        ensure!(tokio::time::timeout(WAIT, stream.read_u8()).await?? == b'x');
    }
    Ok(())
}

#[tokio::test]
async fn stranded_connections_stay_silent_and_new_ones_work() -> Result<()> {
    let proxy = Proxy::start(&echo_server().await?.to_string()).await?;
    let mut old = TcpStream::connect(proxy.address()).await?;
    echo(&mut old, b"before").await?;
    proxy.strand();
    echo(&mut TcpStream::connect(proxy.address()).await?, b"after").await?;
    proxy.restore().await;
    old.write_all(b"x").await?;
    ensure!(
        tokio::time::timeout(SILENCE, old.read_u8()).await.is_err(),
        "something came through"
    );
    Ok(())
}

#[tokio::test]
async fn a_delay_holds_data_each_way() -> Result<()> {
    // Goal: an echo takes two delays at least.
    let proxy = Proxy::start(&echo_server().await?.to_string()).await?;
    let mut stream = TcpStream::connect(proxy.address()).await?;
    proxy.delay(Duration::from_millis(150));
    let begun = Instant::now();
    echo(&mut stream, b"late").await?;
    ensure!(
        begun.elapsed() >= Duration::from_millis(300),
        "{:?}",
        begun.elapsed()
    );
    Ok(())
}
