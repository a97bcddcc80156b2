//! A broker of another process, reached through its socket: here over RabbitMQ, so that what stands behind is known to be right.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hooklane_broker::rabbitmq::{RabbitMq, RabbitMqSettings, RabbitMqShelves, Role};
use hooklane_broker::socket::{SocketBroker, serve};
use hooklane_broker::{
    Broker, BrokerError, Destination, Holder, Outgoing, Queue, SharedBroker, ShelfError, ShelfName, Shelves,
};
use hooklane_telemetry::Metrics;
use hooklane_testkit::eventually;
use hooklane_testkit::rabbitmq::{Vhost, shared};
use hooklane_types::{Properties, UnixMillis};
use tokio::net::UnixListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(60);

struct Bench {
    _vhost: Vhost,
    _dir: tempfile::TempDir,
    served: SharedBroker,
    client: SocketBroker,
    stop: CancellationToken,
}

async fn bench() -> Result<Bench> {
    let vhost = shared().await?.vhost().await?;
    let served: SharedBroker = RabbitMq::start(
        RabbitMqSettings::new(Role::Dispatcher, vhost.url())?,
        Arc::new(Metrics::new()),
    )?;
    let shelves = RabbitMqShelves::new(RabbitMqSettings::new(Role::Operator, vhost.url())?);
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("admin.sock");
    ensure!(SocketBroker::find(&path).await?.is_none(), "nobody serves yet");
    let stop = CancellationToken::new();
    tokio::spawn(serve(
        UnixListener::bind(&path)?,
        served.clone(),
        Arc::new(shelves),
        stop.clone(),
    ));
    let client = SocketBroker::find(&path).await?.context("somebody serves")?;
    // The queues are declared in the background.
    eventually("queues", PATIENCE, || async {
        Ok(served.depth(Queue::Dead).await.map(drop)?)
    })
    .await?;
    Ok(Bench {
        _vhost: vhost,
        _dir: dir,
        served,
        client,
        stop,
    })
}

fn holder(command: &str) -> Holder {
    Holder {
        pid: 4711,
        host: "here".to_owned(),
        user: "somebody".to_owned(),
        command: command.to_owned(),
        since: UnixMillis(0),
    }
}

async fn shelve(bench: &Bench, bodies: &[&str]) -> Result<()> {
    for body in bodies {
        let message = Outgoing::internal(body.as_bytes().to_vec().into());
        bench
            .client
            .publish(Destination::Internal(Queue::Dead), message, PATIENCE)
            .await?;
    }
    Ok(())
}

async fn bodies(bench: &Bench) -> Result<Vec<String>> {
    let mut shelf = bench.client.open(ShelfName::Dead, holder("looks")).await?;
    let mut bodies = Vec::new();
    while let Some(shelved) = shelf.next().await? {
        bodies.push(String::from_utf8(shelved.message.body.to_vec())?);
    }
    shelf.close().await?;
    Ok(bodies)
}

/// Goal: a message comes through as it was, and depths and the delay ladder's are those of the broker behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishes_and_depths_are_those_of_the_broker_behind() -> Result<()> {
    let bench = bench().await?;
    let body: Vec<u8> = (0..=255).cycle().take(3 * 1024 * 1024).collect();
    let properties = Properties {
        message_id: Some("order-17".to_owned()),
        kind: Some("a.b".to_owned()),
        ..Properties::default()
    };
    let message = Outgoing {
        properties: properties.clone(),
        body: body.clone().into(),
    };
    let to = Destination::ProducerEvents {
        routing_key: "a.b".to_owned(),
    };
    bench.client.publish(to, message, PATIENCE).await?;
    eventually("depth", PATIENCE, || async {
        ensure!(bench.client.depth(Queue::Events).await?.messages == 1);
        Ok(())
    })
    .await?;
    ensure!(bench.client.delay_depths().await?.len() == bench.served.delay_depths().await?.len());
    let mut consumption = bench.served.consume(
        Queue::Events,
        hooklane_broker::ConsumeOptions {
            prefetch: 1,
            bytes_max: 1 << 30,
        },
    );
    let incoming = timeout(PATIENCE, consumption.next()).await?.context("it came")?;
    ensure!(incoming.message.body == body && incoming.message.routing_key == "a.b");
    ensure!(incoming.message.properties.message_id == properties.message_id);
    incoming.ack.ack().await?;
    Ok(())
}

/// Goal: a shelf is read in order, one message is removed, a second reader is told who reads, a reader that vanishes leaves everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shelf_is_read_through_the_socket_by_one_reader_at_a_time() -> Result<()> {
    let bench = bench().await?;
    shelve(&bench, &["1", "2", "3"]).await?;
    let mut shelf = bench.client.open(ShelfName::Dead, holder("the first")).await?;
    ensure!(shelf.total() == 3);
    let second = bench.client.open(ShelfName::Dead, holder("the second")).await;
    match second.err().context("one reader at a time")? {
        ShelfError::Held(Some(by)) => ensure!(by.command == "the first", "{by:?}"),
        other => anyhow::bail!("{other}"),
    }
    let first = shelf.next().await?.context("1")?;
    // Broken off at once, it goes on where it was.
    let broken_off = timeout(Duration::ZERO, shelf.next()).await;
    shelf.remove(first.handle).await?;
    let second = match broken_off {
        // The answer was quicker.
        Ok(read) => read?,
        Err(_) => shelf.next().await?,
    };
    let second = second.context("2")?;
    ensure!(second.message.body == "2");
    shelf.close().await?;
    ensure!(bodies(&bench).await? == ["2", "3"]);

    let mut vanishing = bench.client.open(ShelfName::Dead, holder("vanishes")).await?;
    vanishing.next().await?;
    drop(vanishing);
    let left = eventually("the shelf is free", PATIENCE, || bodies(&bench)).await?;
    ensure!(left == ["2", "3"], "{left:?}");
    Ok(())
}

/// Goal: what is published to `control` is heard, also by a listener whose waiting was broken off before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_is_heard_through_the_socket() -> Result<()> {
    let bench = bench().await?;
    let mut heard = bench.client.listen();
    let mut body = None;
    for _ in 0..600 {
        let message = Outgoing::internal("ask".into());
        bench
            .client
            .publish(Destination::Control, message, PATIENCE)
            .await?;
        if let Ok(incoming) = timeout(Duration::from_millis(100), heard.next()).await {
            body = incoming.map(|incoming| incoming.message.body);
            break;
        }
    }
    ensure!(body.context("it was heard")? == "ask");
    Ok(())
}

/// Goal: a process that ends between a message and its confirm is named, and that the message may have been taken.
#[tokio::test]
async fn a_server_that_ends_before_its_answer_leaves_the_outcome_open() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("admin.sock");
    let listener = UnixListener::bind(&path)?;
    let client = SocketBroker::find(&path).await?.context("somebody serves")?;
    let message = Outgoing {
        properties: Properties::default(),
        body: "17".into(),
    };
    let to = Destination::ProducerEvents {
        routing_key: "a.b".to_owned(),
    };
    let ends = async {
        drop(listener.accept().await?);
        let (stream, _) = listener.accept().await?;
        stream.readable().await
    };
    let (published, ended) = tokio::join!(client.publish(to, message, PATIENCE), ends);
    ended?;
    let error = published.err().context("an error")?;
    ensure!(matches!(error, BrokerError::Lost(_)), "{error:?}");
    let told = error.to_string();
    ensure!(
        told.contains("has ended") && told.contains("may have been taken") && !told.contains("within"),
        "{told}"
    );
    Ok(())
}

/// Goal: when the serving process ends, a publish says so, and nobody is found any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ended_server_is_told() -> Result<()> {
    let bench = bench().await?;
    bench.stop.cancel();
    let path = bench._dir.path().join("admin.sock");
    eventually("nobody serves", PATIENCE, || async {
        ensure!(SocketBroker::find(&path).await?.is_none());
        Ok(())
    })
    .await?;
    let error = bench
        .client
        .depth(Queue::Events)
        .await
        .err()
        .context("an error")?;
    ensure!(error.to_string().contains("admin.sock"), "{error}");
    Ok(())
}
