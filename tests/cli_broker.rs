//! Commands against a broker, driven as a user does: by the built binary.

mod stage;

use anyhow::{Context, Result, ensure};
use hooklane_receiver::Reply;
use hooklane_signing::{HeaderFamily, Scheme, Secret, Verifier};
use hooklane_testkit::process::Signal;
use hooklane_testkit::rabbitmq::Rights;
use stage::{On, SECRET, SOON, Stage, on_both};

on_both!(
    an_event_published_over_amqp_arrives_once,
    a_file_of_lines_published_over_amqp_arrives_whole,
    a_running_dispatcher_follows_its_file,
    a_default_file_that_vanishes_removes_no_endpoint,
    sighup_reads_changed_secrets_and_a_bad_file_keeps_the_old_one_in_force,
    check_finds_what_would_fail_every_attempt_and_a_level_that_is_none,
    a_second_signal_ends_a_dispatcher_at_once,
);

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
async fn an_event_published_over_amqp_arrives_once(on: On) -> Result<()> {
    let stage = Stage::on(on).await?;
    stage.settings("", &stage.endpoint("orders", "/hook", ""))?;
    let _dispatcher = stage.dispatcher().await?;
    let payload = "{ \"b\" : 1.0, \"a\":[1 ,2] }";
    let publish = async || stage.publish("order.paid", payload, &["--id", "order-17"]).await;
    let (first, second) = (publish().await?, publish().await?);
    ensure!(first.starts_with("msg_h") && first == second, "{first} {second}");
    stage.publish("order.late", "1", &[]).await?;
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
async fn a_file_of_lines_published_over_amqp_arrives_whole(on: On) -> Result<()> {
    const LINES: u64 = 2_000;
    let stage = Stage::on(on).await?;
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
async fn a_running_dispatcher_follows_its_file(on: On) -> Result<()> {
    let stage = Stage::on(on).await?;
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
    stage.publish("a.b", "1", &[]).await?;
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

/// Goal: the default file that vanishes under a process is a bad file, not one without endpoints: whatever waits for an
/// endpoint would be given up. The broker's URL comes from elsewhere, so that nothing else is missing.
async fn a_default_file_that_vanishes_removes_no_endpoint(on: On) -> Result<()> {
    let stage = Stage::on(on).await?;
    stage.settings("", &stage.endpoint("first", "/first", ""))?;
    let command = match on {
        On::RabbitMq => stage.dispatcher_command()?.args(["--broker", &stage.broker_url]),
        On::Embedded => stage.dispatcher_command()?,
    };
    let process = stage.dispatcher_by(command).await?.process;
    std::fs::remove_file(stage.file())?;
    let said = process.wait_for_line("hooklane.toml", SOON).await?;
    ensure!(said.text.contains("the settings file is bad"), "{}", said.text);
    Ok(())
}

/// Goal: a secret's file is replaced and SIGHUP sent: the next event bears the new signature, without a restart. A bad file then
/// changes nothing, and is counted.
async fn sighup_reads_changed_secrets_and_a_bad_file_keeps_the_old_one_in_force(on: On) -> Result<()> {
    let stage = Stage::on(on).await?;
    let secret = |text: &str| std::fs::write(stage.dir.path().join("hook.secret"), text);
    let verified_by = |text: &str| -> Result<()> {
        let verifier = Verifier::new(
            Scheme::Standard(HeaderFamily::Webhook),
            vec![Secret::parse(text)?],
        )?;
        stage.receiver.verify("/hook", verifier);
        Ok(())
    };
    let url = stage.receiver.url("/hook");
    let endpoint = format!(
        "[[endpoint]]\nid = \"hook\"\napplication = \"acme\"\nurl = \"{url}\"\nsecret_file = \"hook.secret\"\n"
    );
    secret(SECRET)?;
    stage.settings("", &endpoint)?;
    let (ingest, dispatcher) = (stage.ingest().await?, stage.dispatcher().await?);
    let valid = async |count: u64| -> Result<()> {
        ingest.publish(&stage.http, "a", "{}").await?;
        stage.receiver.wait_for(count, SOON).await?;
        let (valid, invalid) = stage.receiver.look(|log| (log.valid(), log.invalid()));
        ensure!((valid, invalid) == (count, 0), "{valid} valid, {invalid} invalid");
        Ok(())
    };
    let reloads = async |result: &str| -> Result<()> {
        dispatcher.process.signal(Signal::HUP)?;
        hooklane_testkit::eventually("the file to be looked at", SOON, || async {
            let found = dispatcher
                .metric(&stage.http, "hooklane_config_reloads_total", result)
                .await?;
            ensure!(found == 1.0, "{found} {result}");
            Ok(())
        })
        .await
    };
    verified_by(SECRET)?;
    valid(1).await?;
    let other = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    secret(other)?;
    reloads("applied").await?;
    verified_by(other)?;
    valid(2).await?;
    stage.settings("", "[[endpoint]]\nid = \"broken\"\n")?;
    reloads("refused").await?;
    valid(3).await
}

/// Goal: `check` finds nothing on a good installation, and names what is wrong on a bad one, each with its remedy.
#[tokio::test]
async fn check_looks_at_settings_and_broker_at_once() -> Result<()> {
    let stage = Stage::new().await?;
    stage.settings("", &stage.endpoint("orders", "/hook", ""))?;
    let fresh = stage.run(&["check"]).await?;
    ensure!(
        fresh.contains("warning  nothing of Hooklane is declared") && !fresh.contains("problem "),
        "{fresh}"
    );
    stage.run(&["topology", "--declare"]).await?;
    let good = stage.run(&["check"]).await?;
    ensure!(
        good.contains("ok       settings (hooklane.toml): 1 endpoint, 2 applications"),
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

/// Goal: a certificate that is not there and an address that is refused are found before the first attempt, and a wrong level
/// of the log with all the rest.
async fn check_finds_what_would_fail_every_attempt_and_a_level_that_is_none(on: On) -> Result<()> {
    let stage = Stage::on(on).await?;
    let endpoint = stage.endpoint("orders", "/hook", "ca_file = \"gone.pem\"");
    let sections = "[log]\nlevel = \"loud,,==\"\n[egress]\nhttps_only = false\n";
    stage.settings(sections, &endpoint)?;
    let ended = stage.hooklane(&["check"])?.run(SOON).await?;
    ensure!(ended.stderr.contains("3 problems were found"), "{}", ended.stdout);
    for found in [
        "endpoint orders: ca_file ",
        "endpoint orders: 127.0.0.1 is a loopback address",
        "log.level: \"loud,,==\" is no level",
    ] {
        ensure!(ended.stdout.contains(found), "{found} in {}", ended.stdout);
    }
    Ok(())
}

/// Goal: `| head` gets its lines, and nobody a backtrace.
#[tokio::test]
async fn long_output_may_be_cut_off() -> Result<()> {
    let stage = Stage::new().await?;
    let program = std::env::var_os("HOOKLANE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_hooklane").into());
    for arguments in [&["check"][..], &["topology"]] {
        let mut child = std::process::Command::new(&program)
            .args(arguments)
            .current_dir(stage.dir.path())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()?;
        drop(child.stdout.take());
        let ended = tokio::task::spawn_blocking(move || child.wait_with_output()).await??;
        let said = String::from_utf8_lossy(&ended.stderr);
        ensure!(ended.status.success() && said.is_empty(), "{arguments:?}: {said}");
    }
    Ok(())
}

/// Goal: a first SIGTERM waits for the attempt in flight, the second ends the process at once; the event is not lost, and its next
/// attempt bears the same id.
async fn a_second_signal_ends_a_dispatcher_at_once(on: On) -> Result<()> {
    let stage = Stage::on(on).await?;
    stage.settings("", &stage.endpoint("orders", "/hook", "timeout = \"1m\""))?;
    stage.receiver.script("/hook", [Reply::hang(), Reply::ok()]);
    let first = stage.dispatcher().await?;
    stage.publish("a.b", "1", &["--id", "1"]).await?;
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
