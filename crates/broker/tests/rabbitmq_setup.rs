//! Accounts, declared topologies and TLS as operators set them up, and what `check` says about them.

#[allow(dead_code)]
mod suite;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hooklane_broker::rabbitmq::check::{Finding, Verdict, check};
use hooklane_broker::rabbitmq::{Declare, RabbitMq, RabbitMqSettings, Role};
use hooklane_broker::topology::{Actor, Names, Rights};
use hooklane_broker::{BrokerError, BrokerState, Destination, Queue, SharedBroker};
use hooklane_telemetry::Metrics;
use hooklane_testkit::rabbitmq::{Node, Options, User, Vhost, shared};
use hooklane_testkit::tls::Authority;
use suite::{PATIENCE, internal, next, options};
use tokio::time::timeout;

fn start(settings: RabbitMqSettings) -> Result<SharedBroker> {
    Ok(RabbitMq::start(settings, Arc::new(Metrics::new()))?)
}

async fn connected(broker: &SharedBroker) -> Result<()> {
    let mut state = broker.state();
    let up = timeout(PATIENCE, state.wait_for(|state| *state == BrokerState::Connected)).await;
    up.with_context(|| format!("{:?}", broker.state().borrow()))??;
    Ok(())
}

/// The vhost with everything declared by an account that may.
async fn declared() -> Result<Vhost> {
    let vhost = shared().await?.vhost().await?;
    let declarer = start(RabbitMqSettings::new(Role::Ingest, vhost.url())?)?;
    connected(&declarer).await?;
    declarer.shut_down().await;
    Ok(vhost)
}

async fn user(vhost: &Vhost, actor: Actor) -> Result<User> {
    let Rights {
        configure,
        write,
        read,
    } = Rights::least(&Names::new("hooklane")?, actor);
    let rights = hooklane_testkit::rabbitmq::Rights {
        configure: &configure,
        write: &write,
        read: &read,
    };
    vhost.user(actor.name(), rights).await
}

/// What dispatchers measure and `hooklane status` shows.
async fn depths(broker: &SharedBroker) -> Result<()> {
    for queue in Queue::ALL {
        broker.depth(queue).await?;
    }
    broker.delay_depths().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_least_rights_are_enough_and_no_more() -> Result<()> {
    // Goal: what `hooklane topology` prints lets each role do its work, and ingest nothing but publish.
    let vhost = declared().await?;
    let ingest = start(RabbitMqSettings::new(
        Role::Ingest,
        &user(&vhost, Actor::Ingest).await?.url,
    )?)?;
    ingest
        .publish(Destination::IngestedEvents, internal("e"), PATIENCE)
        .await?;
    let refused = ingest
        .publish(Destination::Internal(Queue::Dead), internal("x"), PATIENCE)
        .await;
    ensure!(matches!(&refused, Err(BrokerError::Refused(_))), "{refused:?}");
    ingest
        .publish(Destination::IngestedEvents, internal("still works"), PATIENCE)
        .await?;

    let dispatcher = start(RabbitMqSettings::new(
        Role::Dispatcher,
        &user(&vhost, Actor::Dispatcher).await?.url,
    )?)?;
    let mut events = dispatcher.consume(Queue::Events, options(1));
    next(&mut events).await?.ack.ack().await?;
    dispatcher
        .publish(Destination::Delay { level: 0 }, internal("retry"), PATIENCE)
        .await?;
    let mut deliveries = dispatcher.consume(Queue::Deliveries, options(1));
    next(&mut deliveries).await?.ack.ack().await?;
    for queue in [Queue::Deliveries, Queue::Suspects, Queue::Dead, Queue::Faults] {
        dispatcher
            .publish(Destination::Internal(queue), internal("x"), PATIENCE)
            .await?;
    }
    depths(&dispatcher).await?;
    let mut control = dispatcher.listen();
    let heard = async {
        // A listener says not when it listens.
        loop {
            dispatcher
                .publish(Destination::Control, internal("hello"), PATIENCE)
                .await?;
            if timeout(Duration::from_millis(200), control.next()).await.is_ok() {
                return Ok::<_, anyhow::Error>(());
            }
        }
    };
    timeout(PATIENCE, heard)
        .await
        .context("nothing was heard at control")??;
    let refused = dispatcher
        .publish(Destination::IngestedEvents, internal("x"), PATIENCE)
        .await;
    ensure!(
        matches!(&refused, Err(BrokerError::Refused(_))),
        "only ingest may write there: {refused:?}"
    );
    dispatcher.shut_down().await;

    let operator = start(RabbitMqSettings::new(
        Role::Operator,
        &user(&vhost, Actor::Operator).await?.url,
    )?)?;
    depths(&operator).await?;
    let mut shelf = operator.consume(Queue::Dead, options(1));
    next(&mut shelf).await?.ack.ack().await?;
    operator
        .publish(
            Destination::Internal(Queue::Deliveries),
            internal("replay"),
            PATIENCE,
        )
        .await?;

    let producer = start(RabbitMqSettings::new(
        Role::Operator,
        &user(&vhost, Actor::Producer).await?.url,
    )?)?;
    producer
        .publish(
            Destination::ProducerEvents {
                routing_key: "a.b".into(),
            },
            internal("{}"),
            PATIENCE,
        )
        .await?;
    for broker in [ingest, operator, producer] {
        broker.shut_down().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_topology_is_named_with_its_remedy() -> Result<()> {
    // Goal: passive, and nobody has declared anything.
    let vhost = shared().await?.vhost().await?;
    let mut settings = RabbitMqSettings::new(Role::Ingest, vhost.url())?;
    settings.declare = Declare::Passive;
    let broker = start(settings)?;
    let says = |state: &BrokerState| {
        matches!(state, BrokerState::Disconnected { last_error }
            if last_error.contains("hooklane.faults") && last_error.contains("hooklane topology"))
    };
    timeout(PATIENCE, broker.state().wait_for(says))
        .await
        .with_context(|| format!("{:?}", broker.state().borrow()))??;
    // Made meanwhile: it goes on by itself.
    let declarer = start(RabbitMqSettings::new(Role::Ingest, vhost.url())?)?;
    broker
        .publish(Destination::IngestedEvents, internal("x"), PATIENCE)
        .await?;
    for broker in [broker, declarer] {
        broker.shut_down().await;
    }
    Ok(())
}

fn found<'a>(findings: &'a [Finding], verdict: Verdict, text: &str) -> Result<&'a Finding> {
    let found = findings
        .iter()
        .find(|finding| finding.verdict == verdict && finding.what.contains(text));
    found.with_context(|| format!("no {verdict:?} with {text:?} in {findings:#?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_arguments_are_named_and_used_as_they_are() -> Result<()> {
    // Goal: the limit of `events` was changed in the settings of a running installation.
    let vhost = declared().await?;
    let mut settings = RabbitMqSettings::new(Role::Dispatcher, vhost.url())?;
    settings.bounds.events_bytes_max = 5_000_000;
    let findings = check(&settings).await;
    for queue in ["queue hooklane.events", "queue hooklane.ordered"] {
        let warning = found(&findings, Verdict::Warning, queue)?;
        ensure!(
            warning.what.contains("x-max-length-bytes") && warning.what.contains("5000000"),
            "{warning:?}"
        );
    }
    let broker = start(settings)?;
    broker
        .publish(Destination::IngestedEvents, internal("x"), PATIENCE)
        .await?;
    next(&mut broker.consume(Queue::Events, options(1)))
        .await?
        .ack
        .ack()
        .await?;
    broker.shut_down().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_says_what_is_there_and_what_is_not() -> Result<()> {
    // Goal: all well; nothing declared, in one line; no right to declare; wrong password; nobody there.
    let vhost = declared().await?;
    let settings = |url: &str| RabbitMqSettings::new(Role::Dispatcher, url);
    let findings = check(&settings(vhost.url())?).await;
    ensure!(
        findings.iter().all(|finding| finding.verdict == Verdict::Ok),
        "{findings:#?}"
    );
    found(&findings, Verdict::Ok, "RabbitMQ ")?;
    found(&findings, Verdict::Ok, "with their arguments")?;

    let dispatcher = user(&vhost, Actor::Dispatcher).await?;
    let findings = check(&settings(&dispatcher.url)?).await;
    ensure!(
        findings.iter().all(|finding| finding.verdict == Verdict::Ok),
        "{findings:#?}"
    );
    found(&findings, Verdict::Ok, "existence only")?;

    let empty = shared().await?.vhost().await?;
    let fresh = settings(empty.url())?;
    // Twice: looking makes nothing.
    for _ in 0..2 {
        let findings = check(&fresh).await;
        let bad: Vec<_> = findings
            .iter()
            .filter(|finding| finding.verdict != Verdict::Ok)
            .collect();
        ensure!(
            matches!(bad.as_slice(), [one] if one.verdict == Verdict::Warning && one.what.contains("nothing of Hooklane")),
            "{findings:#?}"
        );
    }
    let mut passive = fresh;
    passive.declare = Declare::Passive;
    let findings = check(&passive).await;
    ensure!(
        found(&findings, Verdict::Problem, "nothing of Hooklane")?
            .remedy
            .contains("hooklane topology")
    );

    let findings = check(&settings(&dispatcher.url.replace("correct", "wrong"))?).await;
    ensure!(
        found(&findings, Verdict::Problem, "no connection")?
            .remedy
            .contains("password"),
        "{findings:#?}"
    );
    ensure!(!format!("{findings:?}").contains("wrong%20horse"));

    let nobody = hooklane_testkit::Port::lease()?;
    let findings = check(&settings(&format!("amqp://127.0.0.1:{}", nobody.number()))?).await;
    ensure!(
        found(&findings, Verdict::Problem, "no connection")?
            .remedy
            .contains("port"),
        "{findings:#?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_trusts_the_named_authority_only_and_shows_our_certificate() -> Result<()> {
    // Goal: amqps with a private authority and a required client certificate.
    let authority = Arc::new(Authority::new()?);
    let node = Node::start_with(Options::default().mutual_tls(&authority)).await?;
    let client = authority.client("hooklane")?;
    let mut settings = RabbitMqSettings::new(Role::Ingest, &node.amqps_url_for("guest", "guest", "/"))?;
    settings.ca_file = Some(authority.ca_file().to_owned());
    settings.client_certificate = Some(client.certificate_file().to_owned());
    settings.client_key = Some(client.key_file().to_owned());
    let broker = start(settings.clone())?;
    broker
        .publish(Destination::IngestedEvents, internal("x"), PATIENCE)
        .await?;
    broker.shut_down().await;
    found(&check(&settings).await, Verdict::Ok, "RabbitMQ ")?;

    let stranger = Authority::new()?;
    let mut distrusting = settings.clone();
    distrusting.ca_file = Some(stranger.ca_file().to_owned());
    let findings = check(&distrusting).await;
    found(&findings, Verdict::Problem, "no connection")?;
    let mut system = settings.clone();
    system.ca_file = None;
    found(&check(&system).await, Verdict::Problem, "no connection")?;
    let mut anonymous = settings.clone();
    (anonymous.client_certificate, anonymous.client_key) = (None, None);
    found(&check(&anonymous).await, Verdict::Problem, "no connection")?;
    let mut unreadable = settings;
    unreadable.ca_file = Some("no-such-file.pem".into());
    ensure!(
        found(&check(&unreadable).await, Verdict::Problem, "no-such-file.pem")?
            .remedy
            .contains("certificate")
    );
    Ok(())
}
