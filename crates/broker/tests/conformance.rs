//! The port's conformance suite, run on both implementations.

mod suite;

use std::sync::{Arc, Mutex};

use anyhow::Result;
use hooklane_broker::SharedBroker;
use hooklane_broker::embedded::{EmbeddedBroker, EmbeddedSettings};
use hooklane_broker::rabbitmq::{RabbitMq, RabbitMqSettings, Role};
use hooklane_telemetry::Metrics;
use hooklane_testkit::rabbitmq::{Vhost, shared};
use suite::Bench;
use tempfile::TempDir;

/// A vhost of the shared node.
struct RabbitMqBench {
    vhost: Vhost,
}

impl Bench for RabbitMqBench {
    fn broker(&self, events_bytes_max: u64) -> Result<SharedBroker> {
        let mut settings = RabbitMqSettings::new(Role::Dispatcher, self.vhost.url())?;
        settings.bounds.events_bytes_max = events_bytes_max;
        Ok(RabbitMq::start(settings, Arc::new(Metrics::new()))?)
    }
}

async fn rabbitmq_bench() -> Result<RabbitMqBench> {
    Ok(RabbitMqBench {
        vhost: shared().await?.vhost().await?,
    })
}

/// A directory that one process may open: all that it gives out are the same broker.
struct EmbeddedBench {
    directory: TempDir,
    broker: Mutex<Option<EmbeddedBroker>>,
}

impl Bench for EmbeddedBench {
    fn broker(&self, events_bytes_max: u64) -> Result<SharedBroker> {
        let mut broker = self.broker.lock().expect("no test panics under this lock");
        if broker.is_none() {
            let mut settings = EmbeddedSettings::new(self.directory.path());
            settings.events_bytes_max = events_bytes_max;
            *broker = Some(EmbeddedBroker::open(settings)?);
        }
        Ok(broker.as_ref().expect("it was just opened").shared())
    }
}

async fn embedded_bench() -> Result<EmbeddedBench> {
    Ok(EmbeddedBench {
        directory: tempfile::tempdir()?,
        broker: Mutex::new(None),
    })
}

macro_rules! conformance {
    ($($name:ident)*) => {
        mod rabbitmq {
            use super::*;

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() -> Result<()> {
                    suite::$name(&rabbitmq_bench().await?).await
                }
            )*
        }

        mod embedded {
            use super::*;

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() -> Result<()> {
                    suite::$name(&embedded_bench().await?).await
                }
            )*
        }
    };
}

conformance! {
    a_confirmed_message_arrives_as_it_was
    producers_properties_arrive_and_the_exchange_tells_them_from_ingest
    prefetch_bounds_what_is_unacked
    a_dropped_message_comes_again_and_says_so
    an_acked_message_never_comes_again
    many_acks_at_once_take_nothing_with_them
    a_delay_is_never_early_and_hardly_late
    a_later_message_does_not_hold_up_an_earlier_one
    one_queue_keeps_its_order
    a_deep_queue_is_read_to_the_end
    a_full_queue_refuses_and_takes_again
    a_pause_lets_work_in_hand_end_and_takes_nothing_new
    a_pause_gives_back_what_its_grace_does_not_suffice_for
    what_is_left_of_before_a_pause_changes_nothing_after_it
    depths_tell_messages_and_consumers
    listeners_hear_what_is_published_to_control
    a_shut_down_broker_says_so
    many_publishers_at_once_are_all_confirmed
}
