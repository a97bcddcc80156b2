//! What an embedded broker is opened with.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hooklane_telemetry::Metrics;

use crate::topology::{EVENTS_BYTES_MAX, Names, RECORDS_BYTES_MAX};

/// Most messages in `events` and in `ordered`, unless set otherwise. A small message takes some 100 bytes beside its body.
pub const EVENTS_MESSAGES_MAX: u64 = 10_000_000;
/// The longest rest of a message that is given back again and again.
pub const REST_MAX: Duration = Duration::from_secs(5);

/// What a confirm is worth when the power goes. A killed process (SIGKILL, panic, out of memory) loses nothing that was
/// confirmed at either level: what is written then lies with the operating system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// A confirm is given after `fsync` (SQLite's `synchronous=FULL` in WAL mode): a power cut or a crash of the system loses
    /// nothing that was confirmed, as far as the disk keeps what it says it has. Acks wait for no `fsync` of their own: after a
    /// power cut, messages that were acked within the last moments may come again.
    #[default]
    Full,
    /// `fsync` only at checkpoints (`synchronous=NORMAL`), every few MiB: a power cut may lose messages of the last moments,
    /// confirmed ones too. The file stays sound, and what is lost is the end: no message is kept whose predecessor was lost.
    Normal,
}

/// Settings of an embedded broker. [`EmbeddedSettings::new`] has the defaults.
#[derive(Clone)]
pub struct EmbeddedSettings {
    /// Where `queue.sqlite` lies; made, for its owner only, when it does not exist.
    pub directory: PathBuf,
    /// Names that messages show as the exchange they came by, so that they are judged as on RabbitMQ.
    pub names: Names,
    /// What is told, beside the process id, to a second process that wants the same directory: the command, for instance.
    pub holder: String,
    /// What a confirm is worth when the power goes.
    pub synchronous: Synchronous,
    /// Most bytes of bodies and properties in `events`, and as many in `ordered`: past it publishes end with
    /// [`BrokerError::Full`](crate::BrokerError::Full). One message always fits into an empty queue.
    pub events_bytes_max: u64,
    /// Most bytes of records in `contents`, and as many in `records`: past it publishes end with
    /// [`BrokerError::Full`](crate::BrokerError::Full).
    pub records_bytes_max: u64,
    /// Most messages in `events`, and as many in `ordered`; past it likewise.
    pub events_messages_max: u64,
    /// Most bytes that the file may take: past half of it contents end with [`BrokerError::Full`](crate::BrokerError::Full), past five
    /// eighths records, past three quarters events, past all of it publishes wait as with a full disk. Its log takes some MiB more. None: what the disk has.
    pub file_bytes_max: Option<u64>,
    /// A message that is dropped without ack rests 100 ms before it comes again, twice as long each time, at most this long.
    pub rest_max: Duration,
    /// Where publishes are counted.
    pub metrics: Arc<Metrics>,
}

impl EmbeddedSettings {
    /// The defaults, in this directory.
    pub fn new(directory: impl Into<PathBuf>) -> EmbeddedSettings {
        EmbeddedSettings {
            directory: directory.into(),
            names: Names::new("hooklane").expect("the default prefix is valid"),
            holder: String::new(),
            synchronous: Synchronous::default(),
            events_bytes_max: EVENTS_BYTES_MAX,
            records_bytes_max: RECORDS_BYTES_MAX,
            events_messages_max: EVENTS_MESSAGES_MAX,
            file_bytes_max: None,
            rest_max: REST_MAX,
            metrics: Arc::new(Metrics::new()),
        }
    }
}
