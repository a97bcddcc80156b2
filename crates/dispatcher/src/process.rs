//! One message of a work queue, from its bytes to the point where it may be acked.

use std::cell::RefCell;

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use hooklane_telemetry::Metric;
use hooklane_types::{
    ApplicationId, Delivery, EnvelopeError, Event, EventId, FaultReason, Internal, Origin, Original,
    RawMessage, SLICE_ENDPOINTS_MAX, Suspect, UnixMillis,
};

use crate::core::InHand;
use crate::intake::{self, Refusal};
use crate::park;
use crate::progress::Progress;
use crate::report;
use crate::route::{self, Routing};
use crate::serve;
use crate::settle::{Consequence, GivenBack, Later};

/// Slices of one event that are published at once: enough to fill a round trip to the broker, few enough that one event
/// for thousands of endpoints does not hold the memory of all its slices.
const SLICES_AT_ONCE: usize = 8;

/// What a producer's message begins; a replay begins the next.
const FIRST_RUN: u32 = 0;

/// Why a message was not processed to its end.
#[derive(Debug)]
pub(crate) enum Unprocessed {
    /// It comes again.
    GivenBack,
    /// The registry may be older than its application.
    Unknown { application: ApplicationId },
    /// Another version of Hooklane must read it.
    Newer { version: u8 },
    /// It is a fault.
    Refused {
        refusal: Refusal,
        event: Option<EventId>,
    },
}

impl From<GivenBack> for Unprocessed {
    fn from(_: GivenBack) -> Unprocessed {
        Unprocessed::GivenBack
    }
}

impl From<Refusal> for Unprocessed {
    fn from(refusal: Refusal) -> Unprocessed {
        Unprocessed::Refused { refusal, event: None }
    }
}

impl From<EnvelopeError> for Unprocessed {
    fn from(error: EnvelopeError) -> Unprocessed {
        match error {
            EnvelopeError::Newer { version } => Unprocessed::Newer { version },
            error => Refusal::new(FaultReason::Malformed, error.to_string()).into(),
        }
    }
}

/// Processes a message. On success everything that follows from it is confirmed, and it may be acked.
pub(crate) async fn process(
    hand: InHand<'_>,
    origin: Origin,
    message: &RawMessage,
    redelivered: bool,
) -> Result<(), Unprocessed> {
    match origin {
        Origin::Events | Origin::Ordered => {
            let processed = first_hand(hand, message, redelivered).await;
            let original = || Original {
                origin,
                message: message.clone(),
            };
            or_wait(hand, processed, original, hand.core.clock.now()).await
        }
        Origin::Deliveries => match Internal::decode(message.body.clone())? {
            Internal::Delivery(delivery) => Ok(second_hand(hand, delivery).await?),
            Internal::Suspect(suspect) => {
                let processed = replayed(hand, &suspect.original).await;
                or_wait(hand, processed, || suspect.original.clone(), suspect.since).await
            }
            _ => Err(misplaced("a delivery")),
        },
        Origin::Suspects | Origin::Records => Err(misplaced("a message of this queue")),
    }
}

fn misplaced(wanted: &str) -> Unprocessed {
    Refusal::new(
        FaultReason::Malformed,
        format!("the envelope is not {wanted}, which belongs here"),
    )
    .into()
}

/// An event as it came first-hand.
struct Received {
    event: Event,
    /// Whether a redelivery of its message bears the same id.
    id_lasts: bool,
    /// Whether ingest has recorded it.
    is_recorded: bool,
}

/// Only what was published to the exchange of our ingest is in internal form, whatever the message looks like.
fn event(hand: InHand<'_>, message: &RawMessage) -> Result<Received, Unprocessed> {
    let core = hand.core;
    if message.exchange == core.ingest_exchange {
        return match Internal::decode(message.body.clone())? {
            Internal::Event(event) => Ok(Received {
                event,
                id_lasts: true,
                is_recorded: true,
            }),
            _ => Err(misplaced("an event")),
        };
    }
    let is_current = core.is_current();
    let registry = core.registry();
    let unknown = RefCell::new(None);
    let id_of = |name: ApplicationId| {
        registry.resolve(&name).cloned().unwrap_or_else(|| {
            unknown.replace(Some(name.clone()));
            name
        })
    };
    let (now, random) = (core.clock.now(), core.clock.random());
    let event = match (
        intake::read(message, &core.settings, id_of, now, random),
        unknown.into_inner(),
    ) {
        // A broker user may speak for the id that this name will turn out to have.
        (Err(refusal), Some(application))
            if refusal.reason == FaultReason::WrongApplication && !is_current =>
        {
            return Err(Unprocessed::Unknown { application });
        }
        (read, _) => read?,
    };
    let id_lasts = event.producer_id.is_some();
    Ok(Received {
        event,
        id_lasts,
        is_recorded: false,
    })
}

/// An event whose application is not known yet goes to the delay ladder, and comes back through `deliveries`, as a fault does that is
/// replayed: so that it holds up no other event, however long that takes. It has waited since `since`.
async fn or_wait(
    hand: InHand<'_>,
    processed: Result<(), Unprocessed>,
    original: impl FnOnce() -> Original,
    since: UnixMillis,
) -> Result<(), Unprocessed> {
    let Err(Unprocessed::Unknown { application }) = processed else {
        return processed;
    };
    let (core, original) = (hand.core, original());
    let _room = core.room_for_copy(original.message.body.len()).await?;
    let consequence = Consequence::Unknown {
        level: park::unknown_event(core.clock.now().since(since)),
        event: Suspect {
            original,
            deaths: 0,
            since,
        },
    };
    core.settle
        .carry_out(hand.ack, &core.metrics, consequence)
        .await?;
    report::unknown(&application);
    Ok(())
}

async fn first_hand(hand: InHand<'_>, message: &RawMessage, redelivered: bool) -> Result<(), Unprocessed> {
    let core = hand.core;
    let mut received = event(hand, message)?;
    know_application(hand, &mut received.event).await?;
    let event = &received.event;
    let mut claim = None;
    if event.producer_id.is_some() {
        let now_ms = core.clock.monotonic_ms();
        claim = core
            .claims
            .claim((&event.application, &event.id), redelivered, now_ms)
            .await;
        if claim.is_none() {
            core.metrics.count(Metric::EventsDuplicate, &[]);
            report::duplicate(event);
            return Ok(());
        }
    }
    record_and_send_out(hand, &received, FIRST_RUN).await?;
    if let Some(claim) = claim {
        claim.settle().await;
    }
    Ok(())
}

/// A fault that an operator replays: its original goes through intake again, as the next run, which has its deadline from now on.
/// Never claimed: it would be taken for a duplicate of itself.
async fn replayed(hand: InHand<'_>, original: &Original) -> Result<(), Unprocessed> {
    if !matches!(original.origin, Origin::Events | Origin::Ordered) {
        return Err(misplaced("a replayed event"));
    }
    let mut received = event(hand, &original.message)?;
    know_application(hand, &mut received.event).await?;
    Ok(record_and_send_out(hand, &received, FIRST_RUN + 1).await?)
}

/// Records an event that nobody has recorded, and sends it out.
async fn record_and_send_out(hand: InHand<'_>, received: &Received, run: u32) -> Result<(), GivenBack> {
    let settle = &hand.core.settle;
    if received.is_recorded {
        return send_out(hand, received, run).await;
    }
    if received.id_lasts {
        let both = tokio::join!(
            settle.record_event(hand.ack, &received.event),
            send_out(hand, received, run)
        );
        return both.0.and(both.1);
    }
    // The id is another one after a redelivery: it is recorded once the slices bear it.
    send_out(hand, received, run).await?;
    settle.record_event(hand.ack, &received.event).await
}

/// Routes an event, and serves or publishes what follows.
async fn send_out(hand: InHand<'_>, received: &Received, run: u32) -> Result<(), GivenBack> {
    let core = hand.core;
    let event = &received.event;
    match route::route(&core.registry(), event, received.id_lasts) {
        Routing::Unmatched => {
            core.metrics.count(Metric::EventsUnmatched, &[]);
            report::unmatched(event);
        }
        Routing::Inline(endpoints) => {
            let ids = endpoints.iter().map(|endpoint| &endpoint.id);
            let progress = Progress {
                run,
                ..Progress::default()
            };
            all(ids.map(|id| serve::serve(hand, event, id, progress.clone()))).await?;
        }
        Routing::Slices(slices) => publish_slices(hand, event, run, slices).await?,
    }
    Ok(())
}

/// Puts the application's id in the place of its uid. Waits a little for one that the registry does not know yet.
async fn know_application(hand: InHand<'_>, event: &mut Event) -> Result<(), Unprocessed> {
    let core = hand.core;
    let is_current = core.is_current();
    if let Some(id) = core.registry().resolve(&event.application) {
        if *id != event.application {
            event.application = id.clone();
        }
        return Ok(());
    }
    let unknown = |event: &Event| Unprocessed::Unknown {
        application: event.application.clone(),
    };
    if !is_current {
        return Err(unknown(event));
    }
    let patience = core
        .unknown
        .patience(&event.application, core.clock.monotonic_ms());
    let mut registry = core.registry_changes();
    let known = registry.wait_for(|registry| registry.knows(&event.application));
    let known = tokio::select! {
        biased;
        () = core.shutdown.stop.cancelled() => return Err(Unprocessed::GivenBack),
        known = tokio::time::timeout(patience, known) => match known {
            Ok(Ok(registry)) => registry.resolve(&event.application).cloned(),
            _ => None,
        },
    };
    if let Some(id) = known {
        event.application = id;
        return Ok(());
    }
    // The store may have gone away before it told of the application.
    if !core.is_current() {
        return Err(unknown(event));
    }
    let detail = format!("no application {} is known", event.application);
    let refusal = Refusal::new(FaultReason::UnknownApplication, detail);
    Err(Unprocessed::Refused {
        refusal,
        event: Some(event.id.clone()),
    })
}

async fn publish_slices(
    hand: InHand<'_>,
    event: &Event,
    run: u32,
    slices: Vec<Vec<hooklane_types::EndpointId>>,
) -> Result<(), GivenBack> {
    let publishes = slices.into_iter().map(|slice| {
        let slice = Delivery {
            run,
            ..route::slice(event, slice)
        };
        hand.core
            .settle
            .carry_out(hand.ack, &hand.core.metrics, Consequence::Slice(slice))
    });
    let mut published = stream::iter(publishes).buffer_unordered(SLICES_AT_ONCE);
    while let Some(result) = published.next().await {
        result?;
    }
    Ok(())
}

/// What comes from `deliveries`: a retry, a parked delivery, a slice, a replay. Never claimed.
async fn second_hand(hand: InHand<'_>, mut delivery: Delivery) -> Result<(), GivenBack> {
    let core = hand.core;
    if let Some(hop) = hooklane_policy::ladder::next_hop(delivery.remaining_ms) {
        let consequence = Consequence::Later {
            delivery,
            hop: Some(hop),
            why: Later::NextHop,
        };
        return core.settle.carry_out(hand.ack, &core.metrics, consequence).await;
    }
    let progress = Progress {
        target: delivery.target,
        run: delivery.run,
        attempts_made: delivery.attempts_made,
        parks: delivery.parks,
        deadline: delivery.deadline,
        history: std::mem::take(&mut delivery.history),
    };
    let Delivery { event, endpoints, .. } = delivery;
    all(endpoints
        .iter()
        .map(|id| serve::serve(hand, &event, id, progress.clone())))
    .await
}

/// Serves all endpoints of one message at once. Every one is served to its end, also when another's message was given back. Each is
/// boxed: several KiB that every future around it would hold twice, and copy.
async fn all<F: Future<Output = Result<(), GivenBack>>>(
    served: impl ExactSizeIterator<Item = F>,
) -> Result<(), GivenBack> {
    debug_assert!(served.len() <= SLICE_ENDPOINTS_MAX);
    let mut served = served.map(Box::pin);
    if served.len() == 1
        && let Some(only) = served.next()
    {
        return only.await;
    }
    join_all(served).await.into_iter().collect()
}
