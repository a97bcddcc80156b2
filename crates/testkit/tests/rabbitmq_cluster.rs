//! A cluster of three.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hooklane_testkit::eventually;
use hooklane_testkit::rabbitmq::Cluster;
use lapin::options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};

#[tokio::test]
async fn a_cluster_of_three_keeps_a_confirmed_message_without_one_node_and_takes_the_node_back() -> Result<()>
{
    // Goal: the nodes really form a cluster. Method: publish to a quorum queue by node 0, kill it, read by node 1, start it again.
    let cluster = Cluster::start(3).await?;
    let urls = cluster.urls();
    let connection = Connection::connect(&urls[0], ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel.queue_declare("kept".into(), durable, arguments).await?;
    let options = BasicPublishOptions::default();
    let properties = BasicProperties::default();
    channel
        .basic_publish("".into(), "kept".into(), options, b"one", properties)
        .await?
        .await?;

    cluster.node(0).kill9().await?;
    // A get before a new leader is elected costs the connection (541), so each try has its own.
    let message = eventually("the message at node 1", Duration::from_secs(60), || async {
        let connection = Connection::connect(&urls[1], ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let got = channel
            .basic_get("kept".into(), BasicGetOptions { no_ack: true })
            .await?;
        got.context("the queue is empty")
    })
    .await?;
    ensure!(message.delivery.data == b"one");
    cluster.node(0).restart().await?;
    cluster.wait_joined().await
}
