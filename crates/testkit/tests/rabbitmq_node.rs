//! Private nodes, against the real server.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use hooklane_testkit::eventually;
use hooklane_testkit::rabbitmq::{Node, Options};
use hooklane_testkit::tls::Authority;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

const WAIT: Duration = Duration::from_secs(60);

async fn channel(url: &str) -> Result<(Connection, Channel)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok((connection, channel))
}

async fn publish(channel: &Channel, queue: &str, body: &[u8]) -> Result<()> {
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(queue.into(), durable, FieldTable::default())
        .await?;
    let persistent = BasicProperties::default().with_delivery_mode(2);
    let options = BasicPublishOptions::default();
    channel
        .basic_publish("".into(), queue.into(), options, body, persistent)
        .await?
        .await?;
    Ok(())
}

async fn consume_one(channel: &Channel, queue: &str) -> Result<Vec<u8>> {
    let options = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let mut consumer = channel
        .basic_consume(queue.into(), "".into(), options, FieldTable::default())
        .await?;
    let delivery = tokio::time::timeout(WAIT, consumer.next())
        .await?
        .context("the consumer ended")??;
    Ok(delivery.data)
}

#[tokio::test]
async fn a_node_keeps_confirmed_messages_over_kill_9_and_over_sigterm() -> Result<()> {
    // Goal: kill9, stop and restart act on the same node with the same data. Method: one message each across a SIGKILL and a SIGTERM.
    let node = Node::start().await?;
    let (_connection, sender) = channel(&node.amqp_url()).await?;
    publish(&sender, "kept", b"over kill -9").await?;

    node.kill9().await?;
    ensure!(
        TcpStream::connect(("127.0.0.1", node.port())).is_err(),
        "a killed node still listens"
    );
    ensure!(node.ctl(&["status"]).await.is_err(), "a killed node answers");
    node.restart().await?;
    let (_connection, receiver) = channel(&node.amqp_url()).await?;
    ensure!(consume_one(&receiver, "kept").await? == b"over kill -9");
    receiver.close(200, "".into()).await?;

    let (_connection, sender) = channel(&node.amqp_url()).await?;
    publish(&sender, "kept", b"over SIGTERM").await?;
    node.stop().await?;
    ensure!(!node.is_running());
    ensure!(
        TcpStream::connect(("127.0.0.1", node.port())).is_err(),
        "a stopped node still listens"
    );
    node.restart().await?;
    let (_connection, receiver) = channel(&node.amqp_url()).await?;
    ensure!(consume_one(&receiver, "kept").await? == b"over SIGTERM");
    Ok(())
}

#[tokio::test]
async fn a_node_can_block_publishers_restrict_users_and_drop_connections() -> Result<()> {
    // Goal: alarm, users, vhosts and closing connections have their effect, and end.
    let node = Node::start().await?;
    node.set_memory_alarm(true).await?;
    eventually("the memory alarm", WAIT, || async {
        let alarms = node.ctl(&["eval", "rabbit_alarm:get_alarms()."]).await?;
        ensure!(alarms.contains("memory"), "{alarms}");
        Ok(())
    })
    .await?;
    node.set_memory_alarm(false).await?;
    eventually("the end of the memory alarm", WAIT, || async {
        let alarms = node.ctl(&["eval", "rabbit_alarm:get_alarms()."]).await?;
        ensure!(alarms.trim() == "[]", "{alarms}");
        Ok(())
    })
    .await?;

    node.vhost("own/vhost").await?;
    let url = node
        .add_user("producer", "p@ss/word", "own/vhost", ["^$", "^allowed$", "^$"])
        .await?;
    let (connection, producer) = channel(&url).await?;
    let refused = publish(&producer, "other", b"").await;
    ensure!(
        format!("{refused:?}").contains("ACCESS_REFUSED"),
        "declaring was not refused: {refused:?}"
    );

    ensure!(connection.status().connected());
    node.close_all_connections().await?;
    eventually("the connection to be closed", WAIT, || async {
        ensure!(!connection.status().connected(), "it is open");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_node_speaks_amqps_and_checks_client_certificates() -> Result<()> {
    // Goal: the TLS listener shows a certificate of the authority, and mutual TLS refuses a client without one. Method: rustls handshakes.
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let authority = Arc::new(Authority::new()?);
    let node = Node::start_with(Options::default().mutual_tls(&authority)).await?;
    let url = node.amqps_url_for("guest", "guest", "/");
    let address = url
        .split('@')
        .nth(1)
        .and_then(|rest| rest.split('/').next())
        .context("no authority")?;
    let client = authority.client("producer")?;
    for (identity, accepted) in [(Some(&client), true), (None, false)] {
        let connector = tokio_rustls::TlsConnector::from(authority.client_config(identity)?);
        let stream = tokio::net::TcpStream::connect(address).await?;
        let answer = async {
            let mut stream = connector.connect("localhost".try_into()?, stream).await?;
            stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
            let mut first = [0; 1];
            stream.read_exact(&mut first).await?;
            anyhow::Ok(first[0])
        };
        // A method frame (connection.start) begins with 1.
        let answer = tokio::time::timeout(WAIT, answer).await?;
        ensure!(
            matches!(answer, Ok(1)) == accepted,
            "identity {}: {answer:?}",
            identity.is_some()
        );
    }
    Ok(())
}
