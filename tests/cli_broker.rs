//! Commands against a real RabbitMQ, driven as a user does: by the built binary.

mod stage;

use anyhow::{Context, Result, ensure};
use hooklane_receiver::Reply;
use hooklane_testkit::rabbitmq::Rights;
use stage::{SOON, Stage};

const NOTHING: &str = "^$";

/// Goal: the topology is declared once by whoever may, and as often as he likes.
#[tokio::test]
async fn topology_is_declared_and_declaring_it_again_changes_nothing() -> Result<()> {
    let stage = Stage::new().await?;
    for _ in 0..2 {
        let said = stage.run(&["topology", "--declare"]).await?;
        ensure!(said.contains("are there"), "{said}");
    }
    ensure!(stage.depth("events").await? == 0 && stage.depth("dead").await? == 0);
    Ok(())
}

/// Goal: an account without the right to declare is told so, and what to do.
#[tokio::test]
async fn declaring_without_the_right_fails_and_says_what_to_do() -> Result<()> {
    let stage = Stage::new().await?;
    let vhost = stage.vhost.as_ref().context("a vhost")?;
    let user = vhost
        .user(
            "poor",
            Rights {
                configure: NOTHING,
                write: ".*",
                read: ".*",
            },
        )
        .await?;
    let ended = stage
        .hooklane(&["topology", "--declare", "--broker", &user.url])?
        .run(SOON)
        .await?;
    ensure!(ended.status.code() == Some(1), "{}", ended.stderr);
    ensure!(
        ended.stderr.contains("may not be made by this account"),
        "{}",
        ended.stderr
    );
    ensure!(
        !ended.stderr.contains("correct"),
        "the password is shown: {}",
        ended.stderr
    );
    Ok(())
}

/// Goal: what `publish` sends over AMQP arrives signed, with the exact payload; a repeat with the same id arrives once.
#[tokio::test]
async fn an_event_published_over_amqp_arrives_once() -> Result<()> {
    let stage = Stage::new().await?;
    stage.settings("", &stage.endpoint("orders", "/hook", ""))?;
    let _dispatcher = stage.dispatcher().await?;
    let payload = "{ \"b\" : 1.0, \"a\":[1 ,2] }";
    let arguments = [
        "publish",
        "--application",
        "acme",
        "--type",
        "order.paid",
        "--id",
        "order-17",
        "--payload",
        payload,
    ];
    let (first, second) = (stage.run(&arguments).await?, stage.run(&arguments).await?);
    ensure!(first.starts_with("msg_h") && first == second, "{first} {second}");
    let other = [
        "publish",
        "--application",
        "acme",
        "--type",
        "order.late",
        "--payload",
        "1",
    ];
    stage.run(&other).await?;
    stage.receiver.wait_for(2, SOON).await?;
    stage.wait_empty("events", SOON).await?;
    let requests = stage.receiver.received_at("/hook");
    ensure!(requests.len() == 2, "{} requests", requests.len());
    ensure!(
        requests[0].webhook_id() == Some(first.trim()),
        "{:?}",
        requests[0].webhook_id()
    );
    ensure!(requests[0].body == payload, "{:?}", requests[0].body);
    Ok(())
}

/// Goal: a file of events goes out many at once, and every one of them arrives.
#[tokio::test]
async fn a_file_of_lines_published_over_amqp_arrives_whole() -> Result<()> {
    const LINES: u64 = 2_000;
    let stage = Stage::new().await?;
    stage.settings("", &stage.endpoint("orders", "/hook", "max_in_flight = 200"))?;
    stage.receiver.script("/hook", [Reply::status(204)]);
    let _dispatcher = stage.dispatcher().await?;
    let lines: String = (1..=LINES)
        .map(|n| format!("{{\"application\":\"acme\",\"eventType\":\"a.b\",\"payload\":{{\"n\":{n}}},\"eventId\":\"{n}\"}}\n"))
        .collect();
    std::fs::write(stage.dir.path().join("events"), lines)?;
    let ended = stage
        .hooklane(&["publish", "--lines", "events"])?
        .run(SOON)
        .await?;
    ensure!(ended.status.success(), "{}", ended.stderr);
    ensure!(ended.stderr.contains("published 2000 events"), "{}", ended.stderr);
    stage.receiver.wait_for(LINES, SOON).await?;
    ensure!(stage.receiver.by_webhook_id().len() as u64 == LINES);
    Ok(())
}

/// Goal: endpoints follow the file while a dispatcher runs, and a bad file changes nothing.
#[tokio::test]
async fn a_running_dispatcher_follows_its_file() -> Result<()> {
    let stage = Stage::new().await?;
    stage.settings("", &stage.endpoint("first", "/first", ""))?;
    let dispatcher = stage.dispatcher().await?;
    stage.settings("", "[[endpoint]]\nid = \"broken\"\n")?;
    let refused = dispatcher
        .process
        .wait_for_line("the settings file is bad", SOON)
        .await?;
    ensure!(
        refused.text.contains("endpoint[1].url"),
        "the whole report is logged: {}",
        refused.text
    );
    let both = stage.endpoint("first", "/first", "") + &stage.endpoint("second", "/second", "");
    stage.settings("", &both)?;
    dispatcher
        .process
        .wait_for_line("were loaded again", SOON)
        .await?;
    stage
        .run(&[
            "publish",
            "--application",
            "acme",
            "--type",
            "a.b",
            "--payload",
            "1",
        ])
        .await?;
    stage.receiver.wait_for(2, SOON).await?;
    ensure!(
        stage.receiver.received_at("/first").len() == 1 && stage.receiver.received_at("/second").len() == 1
    );
    let refused = dispatcher
        .metric(&stage.http, "hooklane_config_reloads_total", "refused")
        .await?;
    ensure!(refused == 1.0, "{refused} refused");
    Ok(())
}

/// Goal: `check` finds nothing on a good installation, and names what is wrong on a bad one, each with its remedy.
#[tokio::test]
async fn check_looks_at_settings_and_broker_at_once() -> Result<()> {
    let stage = Stage::new().await?;
    stage.settings("", &stage.endpoint("orders", "/hook", ""))?;
    stage.run(&["topology", "--declare"]).await?;
    let good = stage.run(&["check"]).await?;
    ensure!(
        good.contains("ok       settings (hooklane.toml): 1 endpoints, 2 applications"),
        "{good}"
    );
    ensure!(
        good.contains("ok       RabbitMQ ") && !good.contains("problem "),
        "{good}"
    );
    ensure!(good.contains("can be read by every user"), "{good}");
    stage.settings("[broker2]\n", "[[endpoint]]\nid = \"a\"\n")?;
    let bad = stage.hooklane(&["check"])?.run(SOON).await?;
    ensure!(bad.status.code() == Some(1), "{}", bad.stdout);
    ensure!(
        bad.stdout.contains("broker2: unknown key\n") && bad.stdout.contains("did you mean `broker`?"),
        "{}",
        bad.stdout
    );
    ensure!(
        bad.stdout.contains("endpoint[1].url: is missing"),
        "{}",
        bad.stdout
    );
    ensure!(
        bad.stdout.contains("ok       connected to"),
        "the broker is looked at too: {}",
        bad.stdout
    );
    ensure!(bad.stderr.contains("3 problems were found"), "{}", bad.stderr);
    let nowhere = stage
        .hooklane(&["check", "--broker", "amqp://guest:hunter2@127.0.0.1:1"])?
        .run(SOON)
        .await?;
    ensure!(
        nowhere.status.code() == Some(1) && nowhere.stdout.contains("problem  no connection to"),
        "{}",
        nowhere.stdout
    );
    ensure!(!nowhere.stdout.contains("hunter2"), "{}", nowhere.stdout);
    Ok(())
}

/// Goal: a first SIGTERM waits for the attempt in flight, the second ends the process at once; the event is not lost, and its next
/// attempt bears the same id.
#[tokio::test]
async fn a_second_signal_ends_a_dispatcher_at_once() -> Result<()> {
    let stage = Stage::new().await?;
    stage.settings("", &stage.endpoint("orders", "/hook", "timeout = \"1m\""))?;
    stage.receiver.script("/hook", [Reply::hang(), Reply::ok()]);
    let first = stage.dispatcher().await?;
    stage
        .run(&[
            "publish",
            "--application",
            "acme",
            "--type",
            "a.b",
            "--payload",
            "1",
            "--id",
            "1",
        ])
        .await?;
    stage.receiver.wait_for(1, SOON).await?;
    first.process.terminate()?;
    first
        .process
        .wait_for_line("a second signal ends at once", SOON)
        .await?;
    ensure!(
        first.process.exited().is_none(),
        "the attempt in flight is waited for"
    );
    first.process.terminate()?;
    ensure!(
        first.process.wait(SOON).await?.code() == Some(1),
        "{}",
        first.process.output().tail()
    );
    let _second = stage.dispatcher().await?;
    stage.receiver.wait_for(2, SOON).await?;
    let ids = stage.receiver.by_webhook_id();
    ensure!(ids.len() == 1, "{ids:?}");
    Ok(())
}
