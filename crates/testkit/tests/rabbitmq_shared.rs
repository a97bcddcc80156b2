//! The node that tests share.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hooklane_testkit::rabbitmq::{Rights, shared};
use hooklane_testkit::{eventually, process};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};

const WAIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn vhosts_of_the_shared_node_see_nothing_of_each_other() -> Result<()> {
    // Goal: a queue of one test does not exist in another's vhost. Method: passive declare.
    let node = shared().await?;
    let (first, second) = (node.vhost().await?, node.vhost().await?);
    ensure!(first.name() != second.name());
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let connection = Connection::connect(first.url(), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare("mine".into(), durable, FieldTable::default())
        .await?;
    channel
        .queue_declare("mine".into(), passive, FieldTable::default())
        .await?;
    let connection = Connection::connect(second.url(), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    ensure!(
        channel
            .queue_declare("mine".into(), passive, FieldTable::default())
            .await
            .is_err()
    );
    Ok(())
}

#[tokio::test]
async fn a_user_of_a_vhost_has_only_its_rights_and_cannot_pretend_to_be_another() -> Result<()> {
    // Goal: Rights reach the broker, and user_id is verified. Method: publish with a forged user_id.
    let vhost = shared().await?.vhost().await?;
    let user = vhost
        .user(
            "producer",
            Rights {
                configure: "^$",
                write: "^amq\\.topic$",
                read: "^$",
            },
        )
        .await?;
    let connection = Connection::connect(&user.url, ConnectionProperties::default()).await?;
    for (name, accepted) in [(user.name.as_str(), true), ("guest", false)] {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let properties = BasicProperties::default().with_user_id(name.into());
        let options = BasicPublishOptions::default();
        let published = channel
            .basic_publish("amq.topic".into(), "x".into(), options, b"", properties)
            .await?
            .await;
        ensure!(published.is_ok() == accepted, "as {name}: {published:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_dropped_vhost_is_deleted() -> Result<()> {
    // Goal: hundreds of tests leave no queues in the node. Method: list_vhosts.
    let node = shared().await?;
    let vhost = node.vhost().await?;
    let name = vhost.name().to_owned();
    let control = node.control();
    ensure!(control.run(&["list_vhosts"]).await?.contains(&name));
    drop(vhost);
    eventually("the vhost to go", WAIT, || async {
        let listed = control.run(&["list_vhosts"]).await?;
        ensure!(!listed.lines().any(|line| line == name), "{listed}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_control_program_that_outlives_its_node_starts_no_daemon() -> Result<()> {
    // Goal: rabbitmqctl without an epmd fails, instead of leaving one behind. Method: call it after the node and its epmd are gone.
    let node = hooklane_testkit::rabbitmq::Node::start().await?;
    let command = node.control().shell_command();
    let port = command
        .split("ERL_EPMD_PORT=")
        .nth(1)
        .and_then(|rest| rest.split('\'').next());
    let port: u16 = port.context("the command names no epmd port")?.parse()?;
    ensure!(
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok(),
        "no epmd while the node runs"
    );
    drop(node);
    let late = process::Spawn::program("/bin/sh")
        .args(["-c", &format!("{command} list_vhosts")])
        .run(WAIT)
        .await?;
    ensure!(!late.status.success(), "{late:?}");
    ensure!(
        std::net::TcpStream::connect(("127.0.0.1", port)).is_err(),
        "an epmd was left behind"
    );
    Ok(())
}

#[tokio::test]
async fn a_killed_test_process_leaves_no_node_behind() -> Result<()> {
    // Goal: the watchdog. Method: this test executable runs the helper below and is killed with SIGKILL; then its node and data must go.
    let helper = process::Spawn::program(std::env::current_exe()?)
        .args(["--exact", "helper_starts_a_node_and_waits", "--nocapture"])
        .env("TESTKIT_HELPER", "1");
    // Started so that its own watchdog, not ours, must do the work: ours only kills its process group.
    let helper = helper.start()?;
    let line = helper
        .wait_for_line("node runs ", Duration::from_secs(200))
        .await?;
    let mut words = line
        .text
        .split("node runs ")
        .nth(1)
        .context("no details")?
        .split(' ');
    let (port, dir) = (
        words.next().context("no port")?,
        words.next().context("no directory")?,
    );
    let port: u16 = port.parse()?;
    ensure!(std::path::Path::new(dir).exists());
    ensure!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    helper.kill9().await?;
    eventually("node and data to go", WAIT, || async {
        ensure!(
            std::net::TcpStream::connect(("127.0.0.1", port)).is_err(),
            "the node lives"
        );
        ensure!(!std::path::Path::new(dir).exists(), "{dir} is still there");
        let left = Command::new("grep")
            .args(["-la", dir])
            .args(environments()?)
            .output()?;
        ensure!(
            left.stdout.is_empty(),
            "still running: {}",
            String::from_utf8_lossy(&left.stdout)
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn test_binaries_can_share_the_node_of_with_rabbitmq() -> Result<()> {
    // Goal: the two variables suffice, and the command's failure is passed on. Method: tests of this executable run under it; they start no node of their own.
    let alone = process::Spawn::program(env!("CARGO_BIN_EXE_with-rabbitmq"))
        .arg(std::env::current_exe()?)
        .args([
            "--exact",
            "vhosts_of_the_shared_node_see_nothing_of_each_other",
            "a_dropped_vhost_is_deleted",
        ])
        .run(Duration::from_secs(240))
        .await?;
    ensure!(
        alone.status.success() && alone.stdout.contains("2 passed"),
        "{alone:?}"
    );
    let script =
        "test -n \"$HOOKLANE_TEST_AMQP\" && eval \"$HOOKLANE_TEST_RABBITMQ_CTL list_vhosts\" && exit 7";
    let failing =
        process::Spawn::program(env!("CARGO_BIN_EXE_with-rabbitmq")).args(["/bin/sh", "-c", script]);
    let failing = failing.run(Duration::from_secs(240)).await?;
    ensure!(
        failing.status.code() == Some(7) && failing.stdout.contains("/\n"),
        "{failing:?}"
    );
    Ok(())
}

/// The environments of all processes but ours: the node's names its directory.
fn environments() -> Result<Vec<std::path::PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let number: Option<u32> = entry.file_name().to_string_lossy().parse().ok();
        if number.is_some_and(|number| number != std::process::id()) {
            files.push(entry.path().join("environ"));
        }
    }
    Ok(files)
}

#[tokio::test]
async fn helper_starts_a_node_and_waits() -> Result<()> {
    // Goal: none of its own; the other half of the test above, and nothing unless started by it.
    if std::env::var_os("TESTKIT_HELPER").is_none() {
        return Ok(());
    }
    let node = hooklane_testkit::rabbitmq::Node::start().await?;
    let dir = node
        .ctl(&[
            "eval",
            "io:format(\"~s\", [os:getenv(\"RABBITMQ_MNESIA_BASE\")]).",
        ])
        .await?;
    let dir = dir
        .lines()
        .next()
        .context("no directory")?
        .trim_end_matches("ok")
        .to_owned();
    let dir = std::path::Path::new(&dir)
        .ancestors()
        .nth(2)
        .context("no base directory")?
        .to_owned();
    println!("node runs {} {} .", node.port(), dir.display());
    std::future::pending().await
}
