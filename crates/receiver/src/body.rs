use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use crate::reply::Body;
use crate::server::InFlight;

static ZEROS: [u8; HUGE_CHUNK_BYTES] = [0; HUGE_CHUNK_BYTES];
/// One frame of a huge body: large enough to be fast, small enough for the count to be near the truth.
const HUGE_CHUNK_BYTES: usize = 64 * 1024;

/// The body of an answer while it is sent.
pub(crate) struct Sending {
    stage: Stage,
    bytes_sent: Arc<AtomicU64>,
    /// The request counts as in flight until its answer was sent or given up.
    _in_flight: InFlight,
}

enum Stage {
    Full(Option<Bytes>),
    Huge {
        left: u64,
    },
    Slow {
        chunk: Bytes,
        every: Duration,
        left: u64,
        pause: Pin<Box<Sleep>>,
    },
    Hang(Option<Bytes>),
}

impl Sending {
    pub(crate) fn new(body: Body, bytes_sent: Arc<AtomicU64>, in_flight: InFlight) -> Sending {
        let stage = match body {
            Body::Full(bytes) => Stage::Full(Some(bytes).filter(|bytes| !bytes.is_empty())),
            Body::Huge { bytes } => Stage::Huge { left: bytes },
            Body::Slow { chunk, every, count } => Stage::Slow {
                chunk,
                every,
                left: count,
                pause: Box::pin(sleep(every)),
            },
            Body::Hang { first } => Stage::Hang(Some(first).filter(|bytes| !bytes.is_empty())),
        };
        Sending {
            stage,
            bytes_sent,
            _in_flight: in_flight,
        }
    }
}

impl Stage {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        match self {
            Stage::Full(bytes) => Poll::Ready(bytes.take()),
            // Nothing wakes this body again: only the peer or the receiver's end does away with it.
            Stage::Hang(first) => first
                .take()
                .map_or(Poll::Pending, |bytes| Poll::Ready(Some(bytes))),
            Stage::Huge { left: 0 } | Stage::Slow { left: 0, .. } => Poll::Ready(None),
            Stage::Huge { left } => {
                let length = (*left).min(HUGE_CHUNK_BYTES as u64);
                *left -= length;
                Poll::Ready(Some(Bytes::from_static(&ZEROS[..length as usize])))
            }
            Stage::Slow {
                chunk,
                every,
                left,
                pause,
            } => {
                if pause.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                pause.as_mut().reset(tokio::time::Instant::now() + *every);
                *left -= 1;
                Poll::Ready(Some(chunk.clone()))
            }
        }
    }
}

impl hyper::body::Body for Sending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let polled = self.stage.poll(context);
        if let Poll::Ready(Some(bytes)) = &polled {
            self.bytes_sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        polled.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.stage, Stage::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.stage {
            Stage::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Stage::Huge { .. } | Stage::Slow { .. } | Stage::Hang(_) => SizeHint::default(),
        }
    }
}
