//! Reading a request's body within its bounds, and the bound over all bodies together.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use hooklane_telemetry::{Metric, Metrics};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::answer::Refusal;

/// The bytes of all bodies that the process holds.
pub(crate) struct Bodies {
    bytes: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// Bytes taken out of the bound for one request; given back when dropped.
pub(crate) struct Held {
    permit: Option<OwnedSemaphorePermit>,
    metrics: Arc<Metrics>,
}

/// What one body may be and take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes.
    pub(crate) bytes_max: usize,
    /// From now to its last byte.
    pub(crate) timeout: Duration,
}

impl Bodies {
    /// `bytes_max` fits 32 bits (checked with the settings).
    pub(crate) fn new(bytes_max: usize, metrics: Arc<Metrics>) -> Bodies {
        Bodies {
            bytes: Arc::new(Semaphore::new(bytes_max)),
            metrics,
        }
    }

    /// Reads a body. What has arrived is held, not what was announced: a publisher that announces much and sends nothing
    /// takes nothing from others.
    ///
    /// # Errors
    /// `TooLarge`, `BodyTimeout`, `BodyBroken` or `Busy`. A body that announces too much is refused unread, so that a
    /// publisher that asked with `Expect: 100-continue` need not send it.
    pub(crate) async fn read(&self, body: Body, limits: Limits) -> Result<(Bytes, Held), Refusal> {
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if announced > limits.bytes_max {
            return Err(Refusal::TooLarge {
                limit_bytes: limits.bytes_max,
            });
        }
        if announced > self.bytes.available_permits() {
            return Err(Refusal::Busy);
        }
        let read = tokio::time::timeout(limits.timeout, self.collect(body, announced, limits.bytes_max));
        read.await.unwrap_or_else(|_| {
            Err(Refusal::BodyTimeout {
                waited_ms: limits.timeout.as_millis(),
            })
        })
    }

    async fn collect(
        &self,
        mut body: Body,
        announced: usize,
        bytes_max: usize,
    ) -> Result<(Bytes, Held), Refusal> {
        let mut held = Held {
            permit: None,
            metrics: self.metrics.clone(),
        };
        // Most bodies come as one frame, which is kept as it is.
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Refusal::BodyBroken {
                detail: error.to_string(),
            })?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let so_far = first.len().max(rest.len());
            if so_far + data.len() > bytes_max {
                return Err(Refusal::TooLarge {
                    limit_bytes: bytes_max,
                });
            }
            self.hold(&mut held, data.len())?;
            if so_far == 0 {
                first = data;
                continue;
            }
            if rest.is_empty() {
                rest.reserve(announced.max(so_far + data.len()));
                rest.extend_from_slice(&first);
                first = Bytes::new();
            }
            rest.extend_from_slice(&data);
        }
        Ok((if rest.is_empty() { first } else { rest.freeze() }, held))
    }

    fn hold(&self, held: &mut Held, bytes: usize) -> Result<(), Refusal> {
        let count = u32::try_from(bytes).map_err(|_| Refusal::Busy)?;
        let permit = self
            .bytes
            .clone()
            .try_acquire_many_owned(count)
            .map_err(|_| Refusal::Busy)?;
        match &mut held.permit {
            Some(earlier) => earlier.merge(permit),
            None => held.permit = Some(permit),
        }
        self.metrics.add(Metric::BytesHeld, &[], bytes as f64);
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let bytes = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        self.metrics.add(Metric::BytesHeld, &[], -(bytes as f64));
    }
}

/// An answer's bytes, which keep their place in the bound until they were sent.
pub(crate) fn holding(bytes: Vec<u8>, held: Held) -> Bytes {
    struct Answer {
        bytes: Vec<u8>,
        _held: Held,
    }

    impl AsRef<[u8]> for Answer {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }

    Bytes::from_owner(Answer { bytes, _held: held })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        bytes_max: 100,
        timeout: Duration::from_secs(5),
    };

    fn chunked(chunks: &[&'static str]) -> Body {
        let frames: Vec<Result<hyper::body::Frame<Bytes>, std::io::Error>> = chunks
            .iter()
            .map(|chunk| Ok(hyper::body::Frame::data(Bytes::from_static(chunk.as_bytes()))))
            .collect();
        Body::new(http_body_util::StreamBody::new(futures_util::stream::iter(
            frames,
        )))
    }

    fn bodies(bytes_max: usize) -> Bodies {
        Bodies::new(bytes_max, Arc::new(Metrics::new()))
    }

    #[tokio::test]
    async fn joins_chunks_in_their_order() {
        let bodies = bodies(1000);
        let (bytes, _held) = bodies
            .read(chunked(&["", "ab", "c", "", "def"]), LIMITS)
            .await
            .unwrap();
        assert_eq!(bytes, "abcdef");
        let (bytes, _held) = bodies.read(Body::empty(), LIMITS).await.unwrap();
        assert!(bytes.is_empty());
    }

    #[tokio::test]
    async fn the_limit_counts_declared_and_chunked_bodies_alike() {
        let bodies = bodies(1000);
        let line: &'static str = "0123456789012345678901234567890123456789";
        let refused = bodies.read(Body::from(line.repeat(3)), LIMITS).await;
        assert!(matches!(refused, Err(Refusal::TooLarge { limit_bytes: 100 })));
        let refused = bodies.read(chunked(&[line, line, line]), LIMITS).await;
        assert!(matches!(refused, Err(Refusal::TooLarge { limit_bytes: 100 })));
        assert_eq!(bodies.bytes.available_permits(), 1000);
    }

    #[tokio::test]
    async fn bytes_are_held_until_the_answer_is_gone() {
        let bodies = bodies(10);
        let (bytes, held) = bodies.read(chunked(&["abc", "def"]), LIMITS).await.unwrap();
        assert_eq!(bodies.bytes.available_permits(), 4);
        assert_eq!(bodies.metrics.value(Metric::BytesHeld, &[]), 6.0);
        assert!(matches!(
            bodies.read(chunked(&["abc", "def"]), LIMITS).await,
            Err(Refusal::Busy)
        ));
        assert!(matches!(
            bodies.read(Body::from("abcdef"), LIMITS).await,
            Err(Refusal::Busy)
        ));
        let answer = holding(bytes.to_vec(), held);
        let part = answer.slice(2..);
        drop(answer);
        assert_eq!(bodies.bytes.available_permits(), 4);
        drop(part);
        assert_eq!(bodies.bytes.available_permits(), 10);
        assert_eq!(bodies.metrics.value(Metric::BytesHeld, &[]), 0.0);
    }

    #[tokio::test]
    async fn a_body_that_stops_coming_is_given_up() {
        let bodies = bodies(1000);
        let limits = Limits {
            timeout: Duration::from_millis(10),
            ..LIMITS
        };
        let frames = futures_util::stream::pending::<Result<hyper::body::Frame<Bytes>, std::io::Error>>();
        let refused = bodies
            .read(Body::new(http_body_util::StreamBody::new(frames)), limits)
            .await;
        assert!(matches!(refused, Err(Refusal::BodyTimeout { waited_ms: 10 })));
    }
}
