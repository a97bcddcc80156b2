//! A replay is a move: nothing is lost, whenever it ends.

mod bench;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bench::{Bench, DIED_AT, NOW, PATIENCE, event, id, letter, same};
use bytes::Bytes;
use hooklane_broker::Queue;
use hooklane_control::{DeadEntry, Ended, FaultEntry, Filter, ROUND_MAX, ReplayOptions};
use hooklane_testkit::process;
use hooklane_types::{
    ApplicationId, Fault, FaultReason, Internal, Origin, Original, Properties, RawMessage, UnixMillis,
};
use tokio_util::sync::CancellationToken;

const AT_ONCE: ReplayOptions = ReplayOptions {
    rate: None,
    publish_timeout: PATIENCE,
    round: ROUND_MAX,
};

fn number(internal: &Internal) -> Result<String> {
    match internal {
        Internal::Delivery(delivery) => Ok(delivery.event.id.to_string()),
        other => bail!("no delivery: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replayed_letter_is_the_deliverys_next_run() -> Result<()> {
    // Goal: the same event, byte for byte; run + 1; nothing of the old run counts any more.
    let bench = Bench::with_letters(1).await?;
    let stop = CancellationToken::new();
    let replayed = bench
        .reader(&stop)
        .replay::<DeadEntry>(&*bench.broker, &Filter::default(), AT_ONCE, |_| {})
        .await?;
    ensure!(
        (replayed.replayed, replayed.ended) == (1, Ended::AtTheEnd),
        "{replayed:?}"
    );
    let Internal::Delivery(delivery) = bench.drain(Queue::Deliveries, 1).await?.remove(0) else {
        bail!("no delivery");
    };
    ensure!(delivery.event == event(0), "{delivery:?}");
    ensure!(
        (
            delivery.run,
            delivery.attempts_made,
            delivery.parks,
            delivery.remaining_ms
        ) == (3, 0, 0, 0)
    );
    ensure!(delivery.deadline.is_none() && delivery.history.is_empty());
    ensure!(bench.dead_ids().await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_meant_is_replayed_and_the_rest_stays_in_order() -> Result<()> {
    // Goal: filter, letters that died after the replay began, and garbage stay, with more than one batch.
    let bench = Bench::with_letters(1_000).await?;
    let Internal::Dead(mut late) = letter(1_001) else {
        bail!("no letter")
    };
    late.at = UnixMillis(NOW.0 + 1);
    bench
        .put(
            Queue::Dead,
            [Internal::Dead(late).encode(), Bytes::from_static(b"garbage")].into_iter(),
        )
        .await?;
    let stop = CancellationToken::new();
    let odd = Filter {
        application: ApplicationId::parse("odd").ok(),
        ..Filter::default()
    };
    let reader = bench.reader(&stop);
    let replayed = reader
        .replay::<DeadEntry>(&*bench.broker, &odd, AT_ONCE, |_| {})
        .await?;
    ensure!((replayed.replayed, replayed.left) == (500, 0), "{replayed:?}");
    let left = bench.dead_ids().await?;
    let expected: Vec<_> = (0..1_000).step_by(2).map(id).chain([id(1_001)]).collect();
    ensure!(left[..501] == expected, "{left:?}");
    let replayed = reader
        .replay::<DeadEntry>(&*bench.broker, &Filter::default(), AT_ONCE, |_| {})
        .await?;
    ensure!((replayed.replayed, replayed.left) == (500, 1), "{replayed:?}");
    ensure!(bench.dead_ids().await?.len() == 2);
    let published: BTreeSet<_> = bench
        .drain(Queue::Deliveries, 1_000)
        .await?
        .iter()
        .map(number)
        .collect::<Result<_>>()?;
    ensure!(published.len() == 1_000);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rate_holds_and_a_stop_leaves_the_rest_on_the_shelf() -> Result<()> {
    // Goal: --rate is an upper bound; Ctrl-C ends it at once, with what is confirmed moved and the rest in place.
    let bench = Bench::with_letters(100).await?;
    let stop = CancellationToken::new();
    let options = ReplayOptions {
        rate: NonZeroU32::new(20),
        publish_timeout: PATIENCE,
        round: ROUND_MAX,
    };
    let begun = Instant::now();
    let replayed = bench
        .reader(&stop)
        .replay::<DeadEntry>(&*bench.broker, &Filter::default(), options, |replayed| {
            if replayed.replayed == 21 {
                stop.cancel();
            }
        })
        .await?;
    ensure!(
        begun.elapsed() >= Duration::from_secs(1),
        "21 at 20 per second took {:?}",
        begun.elapsed()
    );
    ensure!(
        replayed.ended == Ended::Stopped && (21..=23).contains(&replayed.replayed),
        "{replayed:?}"
    );
    let first_left = u32::try_from(replayed.replayed)?;
    same(
        &bench.dead_ids().await?,
        &(first_left..100).map(id).collect::<Vec<_>>(),
    )?;
    bench.wait_depth(Queue::Deliveries, replayed.replayed).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_replay_goes_on_in_rounds() -> Result<()> {
    // Goal: what is kept aside goes back before the broker's timeout, and every letter that is meant is replayed once.
    let bench = Bench::with_letters(60).await?;
    let options = ReplayOptions {
        rate: NonZeroU32::new(20),
        publish_timeout: PATIENCE,
        round: Duration::from_millis(400),
    };
    let odd = Filter {
        application: ApplicationId::parse("odd").ok(),
        ..Filter::default()
    };
    let stop = CancellationToken::new();
    let replayed = bench
        .reader(&stop)
        .replay::<DeadEntry>(&*bench.broker, &odd, options, |_| {})
        .await?;
    ensure!(
        (replayed.replayed, replayed.ended) == (30, Ended::AtTheEnd),
        "{replayed:?}"
    );
    bench.wait_depth(Queue::Deliveries, 30).await?;
    same(
        &bench.dead_ids().await?,
        &(0..60).step_by(2).map(id).collect::<Vec<_>>(),
    )
}

const HELPER: &str = "CONTROL_TEST_REPLAY";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_killed_half_way_loses_nothing() -> Result<()> {
    // Goal: every letter is on the shelf, or published, or both. Method: this executable runs the helper below and is killed; three times.
    let bench = Bench::with_letters(4_000).await?;
    for round in 0..3 {
        let helper = process::Spawn::program(std::env::current_exe()?)
            .args(["--exact", "helper_replays", "--nocapture"])
            .env(HELPER, bench.vhost.url())
            .start()?;
        helper.wait_for_line("replayed 500", PATIENCE).await?;
        helper.kill9().await?;
        hooklane_testkit::eventually("the lock to be free", PATIENCE, || async {
            bench
                .ids_up_to::<DeadEntry>(&Filter::default(), 1)
                .await
                .map(drop)
                .context(round)
        })
        .await?;
    }
    let on_shelf: BTreeSet<_> = bench.dead_ids().await?.into_iter().collect();
    let depth = usize::try_from(bench.broker.depth(Queue::Deliveries).await?.messages)?;
    ensure!(depth >= 1_500, "only {depth} were replayed");
    let published: BTreeSet<_> = bench
        .drain(Queue::Deliveries, depth)
        .await?
        .iter()
        .map(number)
        .collect::<Result<_>>()?;
    let all: BTreeSet<_> = (0..4_000).map(id).collect();
    ensure!(
        on_shelf.union(&published).cloned().collect::<BTreeSet<_>>() == all,
        "letters are lost"
    );
    // Repeats are bounded by what was in flight.
    let both = on_shelf.intersection(&published).count();
    ensure!(both <= 3 * 2_100, "{both} repeats");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn helper_replays() -> Result<()> {
    // Goal: none of its own; the other half of the test above, and nothing unless started by it.
    use hooklane_broker::rabbitmq::{RabbitMq, RabbitMqSettings, RabbitMqShelves, Role};
    let Some(url) = std::env::var_os(HELPER) else {
        return Ok(());
    };
    let settings = RabbitMqSettings::new(Role::Operator, url.to_str().context("the URL is text")?)?;
    let broker = RabbitMq::start(
        settings.clone(),
        std::sync::Arc::new(hooklane_telemetry::Metrics::new()),
    )?;
    let names = settings.names()?;
    let shelves = RabbitMqShelves::new(settings);
    let stop = CancellationToken::new();
    let reader = hooklane_control::Reader {
        shelves: &shelves,
        names: &names,
        holder: bench::holder("replay"),
        now: NOW,
        stop,
    };
    let progress = |replayed: &hooklane_control::Replayed| println!("replayed {}", replayed.replayed);
    reader
        .replay::<DeadEntry>(&*broker, &Filter::default(), AT_ONCE, progress)
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_go_back_through_deliveries_and_raw_ones_too() -> Result<()> {
    // Goal: what the broker put aside is read with its original exchange, and goes back whole. Method: an event that expires in its
    // queue, one of our own faults.
    let bench = Bench::new().await?;
    let original = RawMessage {
        exchange: "hooklane.events".to_owned(),
        routing_key: "invoice.paid".to_owned(),
        properties: Properties::default(),
        body: Bytes::from_static(b"{\"a\": 1.0}"),
    };
    let fault = Fault {
        reason: FaultReason::UnknownApplication,
        detail: "no application".to_owned(),
        at: DIED_AT,
        original: Original {
            origin: Origin::Events,
            message: original.clone(),
        },
    };
    bench
        .put(Queue::Faults, [Internal::Fault(fault).encode()].into_iter())
        .await?;
    publish_expiring(&bench).await?;
    bench.wait_depth(Queue::Faults, 2).await?;
    let expired = Filter {
        reason: Some(FaultReason::Unroutable),
        ..Filter::default()
    };
    ensure!(bench.ids::<FaultEntry>(&expired).await?.len() == 1);
    let stop = CancellationToken::new();
    // The broker's note bears the real time.
    let mut reader = bench.reader(&stop);
    reader.now = UnixMillis(i64::MAX);
    let replayed = reader
        .replay::<FaultEntry>(&*bench.broker, &Filter::default(), AT_ONCE, |_| {})
        .await?;
    ensure!(replayed.replayed == 2, "{replayed:?}");
    let mut bodies = BTreeSet::new();
    for internal in bench.drain(Queue::Deliveries, 2).await? {
        let Internal::Suspect(suspect) = internal else {
            bail!("not through intake again: {internal:?}")
        };
        ensure!(suspect.original.origin == Origin::Events && suspect.deaths == 0);
        bodies.insert(suspect.original.message.body);
    }
    ensure!(
        bodies == BTreeSet::from([Bytes::from_static(b"expired"), original.body]),
        "{bodies:?}"
    );
    ensure!(bench.ids::<FaultEntry>(&Filter::default()).await?.is_empty());
    Ok(())
}

/// As a producer does that sets `expiration`: our port leaves it out.
async fn publish_expiring(bench: &Bench) -> Result<()> {
    let connection =
        lapin::Connection::connect(bench.vhost.url(), lapin::ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(lapin::options::ConfirmSelectOptions::default())
        .await?;
    let properties = lapin::BasicProperties::default()
        .with_delivery_mode(2)
        .with_expiration("1".into());
    let options = lapin::options::BasicPublishOptions::default();
    let (exchange, key) = ("hooklane.events".into(), "invoice.paid".into());
    channel
        .basic_publish(exchange, key, options, b"expired", properties)
        .await?
        .await?;
    Ok(())
}
