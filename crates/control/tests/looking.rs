//! Looking at a shelf never loses, reorders or uses up a message; one reader at a time.

mod bench;

use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bench::{Bench, NOW, PATIENCE, holder, id, letter, same};
use bytes::Bytes;
use hooklane_broker::{Queue, ShelfError, ShelfName, Shelves};
use hooklane_control::{ControlError, DeadEntry, Ended, Entry, FaultEntry, Filter};
use hooklane_testkit::{eventually, process};
use hooklane_types::{ApplicationId, DeadReason, Internal, UnixMillis};
use tokio_util::sync::CancellationToken;

fn ids(numbers: impl Iterator<Item = u32>) -> Vec<String> {
    numbers.map(id).collect()
}

fn is_odd(number: &u32) -> bool {
    !number.is_multiple_of(2)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_25_times_keeps_every_message_in_order() -> Result<()> {
    // Goal: quorum queues drop messages after a number of returns by default, and reorder by nack. Method: whole and partial looks.
    let bench = Bench::with_letters(60).await?;
    for look in 0..25 {
        let limit = if look % 2 == 0 { usize::MAX } else { 1 + look };
        let (found, scanned) = bench.ids_up_to::<DeadEntry>(&Filter::default(), limit).await?;
        ensure!(scanned.total == 60, "look {look}: {scanned:?}");
        ensure!(found == ids(0..60.min(limit as u32)), "look {look}: {found:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deep_shelf_keeps_its_order_with_removals_and_new_letters_in_between() -> Result<()> {
    // Goal: order over many channels. Method: 6,000 letters, whole and partial looks, a third of them purged from all over, new ones at the back.
    let bench = Bench::with_letters(6_000).await?;
    same(&bench.dead_ids().await?, &ids(0..6_000))?;
    let (found, scanned) = bench.ids_up_to::<DeadEntry>(&Filter::default(), 3_333).await?;
    ensure!(found == ids(0..3_333) && scanned.ended == Ended::Enough);
    ensure!(
        bench.dead_ids().await? == ids(0..6_000),
        "reordered by a partial look"
    );
    // Every third, in one reading: from the first batches up to the last.
    let mut shelf = bench.shelves.open(ShelfName::Dead, holder("remove")).await?;
    let mut number = 0;
    while let Some(shelved) = shelf.next().await? {
        if number % 3 == 1 {
            shelf.remove(shelved.handle).await?;
        }
        number += 1;
    }
    shelf.close().await?;
    ensure!(
        number == 6_000,
        "{number} were read: removing brought others out of turn"
    );
    bench
        .put(Queue::Dead, (6_000..6_500).map(|number| letter(number).encode()))
        .await?;
    let left = ids((0..6_000).filter(|number| number % 3 != 1).chain(6_000..6_500));
    for look in 0..4 {
        same(&bench.dead_ids().await?, &left).with_context(|| format!("look {look}"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_removed_late_is_gone_and_the_rest_stays() -> Result<()> {
    // Goal: handles of early batches work while later ones are read. Method: read all, then remove from the front.
    let bench = Bench::with_letters(500).await?;
    let mut shelf = bench.shelves.open(ShelfName::Dead, holder("remove")).await?;
    let mut handles = Vec::new();
    while let Some(shelved) = shelf.next().await? {
        handles.push(shelved.handle);
    }
    for handle in handles.into_iter().take(300) {
        shelf.remove(handle).await?;
    }
    ensure!(
        shelf.next().await?.is_none(),
        "a removal brought a message that was seen already"
    );
    shelf.close().await?;
    same(&bench.dead_ids().await?, &ids(300..500))?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_are_read_in_small_batches_and_in_order() -> Result<()> {
    // Goal: what the client holds stays bounded. Method: 2 MiB bodies between small ones; all of them come, in order, twice.
    let bench = Bench::new().await?;
    let sized = |number: u32| {
        let Internal::Dead(mut dead) = letter(number) else {
            unreachable!("a letter is dead")
        };
        if number % 4 == 3 {
            dead.delivery.event.payload = Bytes::from(vec![b'x'; 2 * 1024 * 1024]);
        }
        Internal::Dead(dead).encode()
    };
    bench.put(Queue::Dead, (0..40).map(sized)).await?;
    for _ in 0..2 {
        same(&bench.dead_ids().await?, &ids(0..40))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_reader_is_told_who_holds_the_shelf() -> Result<()> {
    // Goal: the lock holds, names its holder every time it is asked, is per shelf, and is free again after closing.
    let bench = Bench::with_letters(3).await?;
    let first = bench
        .shelves
        .open(ShelfName::Dead, holder("dead replay --all"))
        .await?;
    for _ in 0..3 {
        match bench.shelves.open(ShelfName::Dead, holder("dead list")).await {
            Err(ShelfError::Held(Some(found))) => ensure!(found == holder("dead replay --all"), "{found:?}"),
            Err(other) => bail!("{other:?}"),
            Ok(_) => bail!("two readers"),
        }
    }
    bench
        .shelves
        .open(ShelfName::Faults, holder("faults list"))
        .await?
        .close()
        .await?;
    first.close().await?;
    same(&bench.dead_ids().await?, &ids(0..3))?;
    Ok(())
}

const HELPER: &str = "CONTROL_TEST_HOLD";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_of_a_reader_frees_the_lock_and_loses_nothing() -> Result<()> {
    // Goal: no lock outlives its holder. Method: this executable runs the helper below, which holds 1,000 of 1,500 letters, and is killed.
    let bench = Bench::with_letters(1_500).await?;
    let helper = process::Spawn::program(std::env::current_exe()?)
        .args(["--exact", "helper_reads_a_shelf_and_waits", "--nocapture"])
        .env(HELPER, bench.vhost.url())
        .start()?;
    helper.wait_for_line("reads the shelf", PATIENCE).await?;
    match bench.dead_ids().await {
        Err(error) => ensure!(error.to_string().contains("somebody else"), "{error:#}"),
        Ok(_) => bail!("two readers"),
    }
    helper.kill9().await?;
    eventually(
        "the lock to be free and every letter to be back",
        PATIENCE,
        || async {
            let mut found = bench.dead_ids().await?;
            found.sort();
            ensure!(found == ids(0..1_500), "{} letters", found.len());
            Ok(())
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn helper_reads_a_shelf_and_waits() -> Result<()> {
    // Goal: none of its own; the other half of the test above, and nothing unless started by it.
    let Some(url) = std::env::var_os(HELPER) else {
        return Ok(());
    };
    let url = url.into_string().ok().context("the URL is text")?;
    let settings =
        hooklane_broker::rabbitmq::RabbitMqSettings::new(hooklane_broker::rabbitmq::Role::Operator, &url)?;
    let shelves = hooklane_broker::rabbitmq::RabbitMqShelves::new(settings);
    let mut shelf = shelves.open(ShelfName::Dead, holder("held by a test")).await?;
    for _ in 0..1_000 {
        shelf.next().await?.context("the shelf is shorter")?;
    }
    println!("reads the shelf");
    std::future::pending().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_reading_puts_everything_back_in_order() -> Result<()> {
    // Goal: Ctrl-C half way reorders nothing. Method: the visitor stops the reading at 700 of 2,000.
    let bench = Bench::with_letters(2_000).await?;
    let stop = CancellationToken::new();
    let mut seen = 0;
    let scanned = bench
        .reader(&stop)
        .scan::<DeadEntry>(&Filter::default(), |_| {
            seen += 1;
            if seen == 700 {
                stop.cancel();
            }
            Ok(ControlFlow::Continue(()))
        })
        .await?;
    ensure!(
        scanned.ended == Ended::Stopped && scanned.read == 700,
        "{scanned:?}"
    );
    // A closed pipe ends it as well.
    let broken = bench.reader(&CancellationToken::new());
    let result = broken
        .scan::<DeadEntry>(&Filter::default(), |_| Err(std::io::ErrorKind::BrokenPipe.into()))
        .await;
    ensure!(matches!(result, Err(ControlError::Output(_))), "{result:?}");
    same(&bench.dead_ids().await?, &ids(0..2_000))?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_choose_and_garbage_never_stops_the_reading() -> Result<()> {
    // Goal: only what is meant, with bytes of every kind in between.
    let bench = Bench::with_letters(10).await?;
    let garbage = [&b""[..], b"HL", b"HL\x09\x00\x00\x00\x00", b"\xff"].map(Bytes::from_static);
    bench.put(Queue::Dead, garbage.into_iter()).await?;
    bench
        .put(Queue::Dead, (10..20).map(|number| letter(number).encode()))
        .await?;
    let odd = Filter {
        application: ApplicationId::parse("odd").ok(),
        ..Filter::default()
    };
    ensure!(bench.ids::<DeadEntry>(&odd).await? == ids((0..20).filter(is_odd)));
    let none = Filter {
        reason: Some(DeadReason::Gone),
        ..Filter::default()
    };
    let (found, scanned) = bench.ids_up_to::<DeadEntry>(&none, usize::MAX).await?;
    ensure!(found.is_empty() && scanned.read == 24, "{scanned:?}");
    let one = Filter {
        id: Some(id(13)),
        ..Filter::default()
    };
    ensure!(bench.ids::<DeadEntry>(&one).await? == [id(13)]);
    let old = Filter {
        older_than: Some(Duration::from_secs(60)),
        ..Filter::default()
    };
    ensure!(bench.ids::<DeadEntry>(&old).await?.len() == 20);
    let young = Filter {
        newer_than: Some(Duration::from_secs(60)),
        ..Filter::default()
    };
    ensure!(bench.ids::<DeadEntry>(&young).await?.is_empty());
    ensure!(
        bench
            .dead_ids()
            .await?
            .iter()
            .filter(|id| id.starts_with("unr_"))
            .count()
            == 4
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_and_the_detail_say_what_happened() -> Result<()> {
    // Goal: an operator sees who, what, why, how often and when; the export has what publishing again needs.
    let bench = Bench::with_letters(1).await?;
    let mut shown = None;
    bench
        .reader(&CancellationToken::new())
        .scan::<DeadEntry>(&Filter::default(), |entry| {
            shown = Some((
                serde_json::to_value(entry.row(NOW))?,
                serde_json::to_value(entry.detail(usize::MAX))?,
            ));
            Ok(ControlFlow::Continue(()))
        })
        .await?;
    let (row, detail) = shown.context("nothing was shown")?;
    for (field, value) in [
        ("id", "msg_00000"),
        ("application", "even"),
        ("endpoint", "ep_1"),
        ("reason", "exhausted"),
        ("last_outcome", "500"),
    ] {
        ensure!(row[field] == value, "{field}: {row}");
    }
    ensure!(
        row["age_s"] == 60 && row["attempts"] == 2 && row["died_at"] == "2023-11-14T22:13:20.000Z",
        "{row}"
    );
    ensure!(detail["history"].as_array().map(Vec::len) == Some(2), "{detail}");
    ensure!(
        detail["payload"] == "{\"number\": 0}" && detail["content_type"] == "application/json",
        "{detail}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purging_takes_only_what_is_meant() -> Result<()> {
    // Goal: the filter of a purge is the filter of a list, and the rest stays in order.
    let bench = Bench::with_letters(300).await?;
    let reader_stop = CancellationToken::new();
    let odd = Filter {
        application: ApplicationId::parse("odd").ok(),
        ..Filter::default()
    };
    let mut last = 0;
    let purged = bench
        .reader(&reader_stop)
        .purge::<DeadEntry>(&odd, |scanned| last = scanned.matched)
        .await?;
    ensure!(
        (purged.matched, purged.read, last) == (150, 300, 150),
        "{purged:?}"
    );
    same(
        &bench.dead_ids().await?,
        &ids((0..300).filter(|number| !is_odd(number))),
    )?;
    let purged = bench
        .reader(&reader_stop)
        .purge::<DeadEntry>(&Filter::default(), |_| {})
        .await?;
    ensure!(purged.matched == 150);
    bench.wait_depth(Queue::Dead, 0).await?;
    let Internal::Dead(mut late) = letter(301) else {
        bail!("no letter");
    };
    late.at = UnixMillis(NOW.0 + 1);
    bench
        .put(Queue::Dead, [Internal::Dead(late).encode()].into_iter())
        .await?;
    let purged = bench
        .reader(&reader_stop)
        .purge::<DeadEntry>(&Filter::default(), |_| {})
        .await?;
    ensure!(
        purged.matched == 0,
        "what died after the purge was asked for is gone"
    );
    ensure!(bench.dead_ids().await?.len() == 1);
    ensure!(bench.ids::<FaultEntry>(&Filter::default()).await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_need_no_more_rights_than_the_topology_lists() -> Result<()> {
    // Goal: the printed rights suffice. Method: a user with exactly these opens, reads, removes and closes; and a missing queue is said.
    use hooklane_broker::rabbitmq::{Declare, RabbitMqSettings, RabbitMqShelves, Role};
    use hooklane_broker::topology::{Actor, Rights};
    let bench = Bench::with_letters(3).await?;
    let Rights {
        configure,
        write,
        read,
    } = Rights::least(&bench.names, Actor::Operator);
    let rights = hooklane_testkit::rabbitmq::Rights {
        configure: &configure,
        write: &write,
        read: &read,
    };
    let user = bench.vhost.user("operator", rights).await?;
    let mut settings = RabbitMqSettings::new(Role::Operator, &user.url)?;
    settings.declare = Declare::Passive;
    let shelves = RabbitMqShelves::new(settings.clone());
    let mut shelf = shelves.open(ShelfName::Dead, holder("operator")).await?;
    let shelved = shelf.next().await?.context("the shelf is empty")?;
    shelf.remove(shelved.handle).await?;
    ensure!(matches!(
        shelves.open(ShelfName::Dead, holder("other")).await,
        Err(ShelfError::Held(Some(_)))
    ));
    shelf.close().await?;
    same(&bench.dead_ids().await?, &ids(1..3))?;
    settings.prefix = "elsewhere".to_owned();
    let missing = RabbitMqShelves::new(settings)
        .open(ShelfName::Dead, holder("operator"))
        .await;
    ensure!(
        matches!(missing, Err(ShelfError::Refused(_))),
        "a shelf that is not there was opened"
    );
    Ok(())
}
