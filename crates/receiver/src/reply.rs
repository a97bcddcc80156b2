use std::time::Duration;

use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// What the receiver does with one request.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Waits this long after the request was read, before anything else.
    pub delay_before: Duration,
    /// Then does this.
    pub action: Action,
}

/// What follows the delay of a [`Reply`].
#[derive(Clone, Debug)]
pub enum Action {
    /// Answers.
    Answer {
        /// The status line.
        status: StatusCode,
        /// The headers; hyper adds `date` and the framing.
        headers: HeaderMap,
        /// The body.
        body: Body,
    },
    /// Never answers and keeps the connection open.
    Hang,
    /// Ends the connection with a RST (and all HTTP/2 streams on it).
    Reset,
    /// Closes the connection without an answer (FIN).
    Close,
}

/// The body of an answer.
#[derive(Clone, Debug)]
pub enum Body {
    /// These bytes.
    Full(Bytes),
    /// Zeros, this many, as fast as the peer reads; chunked unless a `content-length` header is set.
    Huge {
        /// How many.
        bytes: u64,
    },
    /// A chunk again and again, with a pause before each.
    Slow {
        /// What is sent each time.
        chunk: Bytes,
        /// The pause.
        every: Duration,
        /// How often.
        count: u64,
    },
    /// These bytes, then nothing: neither more nor an end.
    Hang {
        /// What comes before the silence.
        first: Bytes,
    },
}

impl Reply {
    /// `200 OK` with an empty body.
    pub fn ok() -> Reply {
        Reply::status(200)
    }

    /// This status with an empty body.
    ///
    /// # Panics
    /// If it is no HTTP status (100 to 999).
    pub fn status(status: u16) -> Reply {
        let status = StatusCode::from_u16(status).expect("a scripted status is between 100 and 999");
        Reply::from(Action::Answer {
            status,
            headers: HeaderMap::new(),
            body: Body::Full(Bytes::new()),
        })
    }

    /// `302 Found` to another address.
    ///
    /// # Panics
    /// If the address cannot stand in a header.
    pub fn redirect(to: &str) -> Reply {
        Reply::status(302).header(LOCATION.as_str(), to)
    }

    /// Accepts the request and never answers.
    pub fn hang() -> Reply {
        Reply::from(Action::Hang)
    }

    /// Sends `200 OK` and the first bytes of a body that never goes on.
    pub fn hang_in_body(first: impl Into<Bytes>) -> Reply {
        Reply::ok().with(Body::Hang { first: first.into() })
    }

    /// Resets the connection.
    pub fn reset() -> Reply {
        Reply::from(Action::Reset)
    }

    /// Closes the connection without an answer.
    pub fn close() -> Reply {
        Reply::from(Action::Close)
    }

    /// `200 OK` and this many bytes of body.
    pub fn huge_body(bytes: u64) -> Reply {
        Reply::ok().with(Body::Huge { bytes })
    }

    /// `200 OK` and a body that trickles: `chunk`, `count` times, one per `every`.
    pub fn slow_body(chunk: impl Into<Bytes>, every: Duration, count: u64) -> Reply {
        Reply::ok().with(Body::Slow {
            chunk: chunk.into(),
            every,
            count,
        })
    }

    /// Adds a header; nothing for replies that do not answer.
    ///
    /// # Panics
    /// If name or value cannot stand in a header.
    pub fn header(mut self, name: &str, value: &str) -> Reply {
        if let Action::Answer { headers, .. } = &mut self.action {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a scripted header has a valid name");
            headers.append(
                name,
                HeaderValue::from_str(value).expect("a scripted header has a valid value"),
            );
        }
        self
    }

    /// Replaces the body by these bytes.
    pub fn body(self, bytes: impl Into<Bytes>) -> Reply {
        self.with(Body::Full(bytes.into()))
    }

    /// Replaces the body; nothing for replies that do not answer.
    pub fn with(mut self, new: Body) -> Reply {
        if let Action::Answer { body, .. } = &mut self.action {
            *body = new;
        }
        self
    }

    /// Waits before the reply.
    pub fn after(mut self, delay_before: Duration) -> Reply {
        self.delay_before = delay_before;
        self
    }
}

impl From<Action> for Reply {
    fn from(action: Action) -> Reply {
        Reply {
            delay_before: Duration::ZERO,
            action,
        }
    }
}
