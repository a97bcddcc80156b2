//! One line in the log, and one count, for each publish request, however it ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use hooklane_telemetry::{Metric, Metrics};
use hooklane_types::{ApplicationId, Event, EventId, EventType};
use tracing::Level;

use crate::answer::Refusal;

/// Why a request has no answer: its connection ended first, or its task panicked.
const ABANDONED: &str = "abandoned";
/// The status of nginx's log for the same.
const ABANDONED_STATUS: u16 = 499;

/// What is known of a publish request so far. Dropped before it was answered, it counts as abandoned.
pub(crate) struct Line {
    pub(crate) started: Instant,
    pub(crate) peer: SocketAddr,
    pub(crate) way: &'static str,
    pub(crate) application: Option<ApplicationId>,
    event: Option<(EventId, EventType)>,
    /// Of the payload, once it was read: a refusal before that has no size to show.
    bytes: Option<usize>,
    metrics: Arc<Metrics>,
    /// The event was accepted before, by the same request.
    pub(crate) is_again: bool,
    written: bool,
}

impl Line {
    pub(crate) fn begin(started: Instant, peer: SocketAddr, metrics: Arc<Metrics>) -> Line {
        Line {
            started,
            peer,
            way: "http",
            application: None,
            event: None,
            bytes: None,
            metrics,
            is_again: false,
            written: false,
        }
    }

    /// Notes what was read.
    pub(crate) fn read(&mut self, event: &Event) {
        self.event = Some((event.id.clone(), event.event_type.clone()));
        self.bytes = Some(event.payload.len());
    }

    /// The broker confirmed.
    pub(crate) fn accepted(mut self) {
        self.written = true;
        if !self.is_again {
            self.metrics.count(Metric::EventsAccepted, &[self.way]);
        }
        tracing::info!(
            "event.id" = self.event.as_ref().map(|(id, _)| display(id)),
            "event.type" = self.event.as_ref().map(|(_, event_type)| display(event_type)),
            application = self.application.as_ref().map(display),
            bytes = self.bytes,
            duration_ms = self.duration_ms(),
            peer = %self.peer,
            way = self.way,
            again = self.is_again,
            "event accepted"
        );
    }

    /// The publisher was told no.
    pub(crate) fn refused(mut self, refusal: &Refusal) {
        let (level, status, detail) = refusal.log();
        self.end(level, status.as_u16(), refusal.reason(), &detail);
    }

    fn end(&mut self, level: Level, status: u16, reason: &'static str, detail: &str) {
        // tracing wants the level at compile time.
        macro_rules! line {
            ($level:expr) => {
                tracing::event!(
                    $level,
                    "event.id" = self.event.as_ref().map(|(id, _)| display(id)),
                    "event.type" = self.event.as_ref().map(|(_, event_type)| display(event_type)),
                    application = self.application.as_ref().map(display),
                    bytes = self.bytes,
                    duration_ms = self.duration_ms(),
                    peer = %self.peer,
                    way = self.way,
                    status,
                    reason,
                    detail,
                    "event refused"
                )
            };
        }

        self.written = true;
        self.metrics.count(Metric::EventsRefused, &[reason]);
        match level {
            Level::ERROR => line!(Level::ERROR),
            Level::WARN => line!(Level::WARN),
            _ => line!(Level::INFO),
        }
    }

    /// In milliseconds, to the microsecond.
    fn duration_ms(&self) -> f64 {
        self.started.elapsed().as_micros() as f64 / 1000.0
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.written {
            let detail = "the connection ended before the answer; the event may still arrive";
            self.end(Level::INFO, ABANDONED_STATUS, ABANDONED, detail);
        }
    }
}

/// A connection from an address that is not allowed: counted and logged as a refused publish, whatever it asked for.
pub(crate) fn address_refused(peer: SocketAddr, metrics: &Arc<Metrics>) {
    Line::begin(Instant::now(), peer, metrics.clone()).refused(&Refusal::AddressNotAllowed);
}
