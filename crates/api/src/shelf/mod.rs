//! The two shelves: dead letters, which belong to applications, and faults, which belong to whoever runs Hooklane. The same paths for both.

mod act;
mod dead_letter;
mod desk;
mod export;
mod fault;
mod job;
mod look;
mod payload;
mod port;
mod scope;
mod selection;

use std::fmt::Debug;

use http::Method;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

pub use self::dead_letter::{
    DeadDeliveryOut, DeadLetterOut, DeadLetterWholeOut, DeadLetters, PastAttemptOut,
};
pub use self::desk::{Desk, Shelves};
pub use self::fault::{FaultOut, FaultWholeOut, Faults};
pub use self::payload::PayloadOut;
pub use self::port::{Ended, Page, Place, Progress, Reading, Selection, Shelf, ShelfError, Step, Whose};

use self::act::{PurgeIn, ReplayIn};
use self::job::JobOut;
use self::selection::ReasonIn;
use crate::list::List;
use crate::operation::{Need, Operation};

/// What lies on a shelf.
pub trait Kind: Send + Sync + Sized + 'static {
    /// Why.
    type Reason: Copy + Debug + PartialEq + Send + Sync + 'static;
    /// As a list shows it.
    type Row: Serialize + JsonSchema + Send + Sync + 'static;
    /// With all that is known of it.
    type Whole: Serialize + JsonSchema + Send + Sync + 'static;
    /// In the names of schemas.
    const NAME: &'static str;
    /// The shelf's name in logs and metrics.
    const SHELF: &'static str;
    /// What ids begin with.
    const IDS: &'static [&'static str];
    /// Where it is.
    const PATHS: Paths;
    /// Whether it is the business of whoever runs Hooklane alone.
    const IS_OPERATORS: bool;
    /// All reasons.
    const REASONS: &'static [Self::Reason];

    /// A reason's name.
    fn reason_name(reason: Self::Reason) -> &'static str;

    /// Where the shelf is read.
    fn desk(shelves: &Shelves) -> &Desk<Self>;
}

/// Paths and names of a shelf's operations.
#[derive(Clone, Copy, Debug)]
pub struct Paths {
    all: &'static str,
    one: &'static str,
    export: &'static str,
    replay: &'static str,
    purge: &'static str,
    job: &'static str,
    cancel: &'static str,
    list_id: &'static str,
    get_id: &'static str,
    export_id: &'static str,
    replay_id: &'static str,
    purge_id: &'static str,
    job_id: &'static str,
    cancel_id: &'static str,
}

macro_rules! paths {
    ($base:literal, $id:literal, $name:literal) => {
        Paths {
            all: $base,
            one: concat!($base, "/{", $name, "}"),
            export: concat!($base, "/export"),
            replay: concat!($base, "/replay"),
            purge: concat!($base, "/purge"),
            job: concat!($base, "/job/{job_id}"),
            cancel: concat!($base, "/job/{job_id}/cancel"),
            list_id: concat!($id, ".list"),
            get_id: concat!($id, ".get"),
            export_id: concat!($id, ".export"),
            replay_id: concat!($id, ".replay"),
            purge_id: concat!($id, ".purge"),
            job_id: concat!($id, ".get-job"),
            cancel_id: concat!($id, ".cancel-job"),
        }
    };
}
use paths;

/// The operations on one shelf.
pub(crate) fn operations<K: Kind>() -> Vec<Operation> {
    let Paths {
        all,
        one,
        export,
        replay,
        purge,
        job,
        cancel,
        ..
    } = K::PATHS;
    let paths = K::PATHS;
    // An application takes nothing away.
    let (need, purge_need) = match K::IS_OPERATORS {
        true => (Need::Operator, Need::Operator),
        false => (Need::Token, Need::Organisation),
    };
    vec![
        chooses::<K>(Operation::new(
            Method::GET,
            all,
            paths.list_id,
            "List what lies on the shelf, the oldest first",
            look::list::<K>,
        ))
        .needs(need)
        .limits()
        .answers::<List<K::Row>>(200),
        chooses::<K>(Operation::new(
            Method::GET,
            export,
            paths.export_id,
            "Export what lies on the shelf as JSON lines, payloads included",
            export::export::<K>,
        ))
        .needs(need)
        .answers_lines::<K::Whole>(),
        Operation::new(
            Method::GET,
            one,
            paths.get_id,
            "Get one with its payload and its attempts",
            look::get::<K>,
        )
        .needs(need)
        .refuses(&[409])
        .answers::<K::Whole>(200),
        Operation::new(
            Method::POST,
            replay,
            paths.replay_id,
            "Send what is chosen through the pipeline again, in the background",
            act::replay::<K>,
        )
        .needs(need)
        .takes::<ReplayIn<ReasonIn<K>>>()
        .refuses(&[404])
        .answers::<JobOut>(202),
        Operation::new(
            Method::POST,
            purge,
            paths.purge_id,
            "Take what is chosen off the shelf for good, in the background",
            act::purge::<K>,
        )
        .needs(purge_need)
        .takes::<PurgeIn<ReasonIn<K>>>()
        .refuses(&[404])
        .answers::<JobOut>(202),
        Operation::new(
            Method::GET,
            job,
            paths.job_id,
            "See how far a replay or a purge is",
            act::get_job::<K>,
        )
        .needs(need)
        .answers::<JobOut>(200),
        Operation::new(
            Method::POST,
            cancel,
            paths.cancel_id,
            "End a replay or a purge; the rest stays on the shelf",
            act::cancel_job::<K>,
        )
        .needs(need)
        .answers::<JobOut>(200),
    ]
}

/// Has what chooses among the messages of a shelf.
fn chooses<K: Kind>(operation: Operation) -> Operation {
    let text = || json!({"type": "string"});
    let reasons: Vec<&str> = K::REASONS.iter().map(|reason| K::reason_name(*reason)).collect();
    operation
        .refuses(&[404, 409])
        .field("id", "The one with this id, or those of this event", text())
        .field("app_id", "Of this application, by its id or uid", text())
        .field(
            "endpoint_id",
            "For this endpoint, by its id; with app_id, by its uid too",
            text(),
        )
        .field(
            "event_type",
            "Of this type: invoice.paid, or invoice.* for all below",
            text(),
        )
        .field(
            "reason",
            "Lying there for this reason",
            json!({"type": "string", "enum": reasons}),
        )
        .time("before", "What came to the shelf earlier")
        .time("after", "What came to the shelf later")
}
