//! Messages of the fanout `control`: soft state that processes tell each other, as JSON. Lost, it is asked for again.
//! Whoever does not know a message ignores it.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::endpoint::Endpoint;
use crate::id::EndpointId;
use crate::time::UnixMillis;

/// The version that this code writes.
pub const CONTROL_VERSION: u32 = 1;
/// Most endpoints in one reply: with ids of the largest size a message stays under 256 KiB. More go into further parts.
pub const STATUS_ENDPOINTS_MAX: usize = 500;

/// A [`ControlMessage::Pulse`] as it is written.
pub const PULSE: &str = r#"{"v":1,"kind":"pulse"}"#;

/// What travels on `control`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// [`CONTROL_VERSION`] of the writer.
    pub v: u32,
    /// The message.
    #[serde(flatten)]
    pub message: ControlMessage,
}

impl Control {
    /// A message of this version.
    pub fn new(message: ControlMessage) -> Control {
        Control {
            v: CONTROL_VERSION,
            message,
        }
    }
}

/// The messages, told apart by `kind`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ControlMessage {
    /// Asks every dispatcher for its [`StatusReply`].
    StatusRequest {
        /// Repeated in the replies.
        id: String,
    },
    /// One part of a dispatcher's answer.
    StatusReply(StatusReply),
    /// An endpoint answered 410 to one dispatcher; the others stop as well.
    EndpointGone(EndpointGone),
    /// A process had to drop records.
    RecordsDropped(RecordsDropped),
    /// Nobody listens for it: it is published because a broker in an alarm tells only those who publish.
    Pulse,
    /// Something of another version.
    #[serde(other)]
    Unknown,
}

/// What a process had to drop of the history, because the queues into it were full. Repeated as long as it runs: whoever begins to listen hears of
/// it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordsDropped {
    /// Which process.
    pub pod: String,
    /// Since when it runs.
    pub since: UnixMillis,
    /// Contents of events, since then.
    pub contents: u64,
    /// What became of events, since then.
    pub records: u64,
    /// When it last dropped one, to a few seconds.
    pub last_at: UnixMillis,
}

/// Which endpoint answered 410, and to whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointGone {
    /// Which process was answered so.
    pub pod: String,
    /// Since when it runs.
    pub since: UnixMillis,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// SHA-256 of the URL that answered, as hex: whoever has another one for this endpoint by now is not meant, and a URL may hold a
    /// secret.
    pub url_sha256: String,
}

impl EndpointGone {
    /// What the process `pod`, which runs since `since`, says of this endpoint.
    pub fn new(pod: &str, since: UnixMillis, endpoint: &Endpoint) -> EndpointGone {
        EndpointGone {
            pod: pod.to_owned(),
            since,
            endpoint: endpoint.id.clone(),
            url_sha256: url_sha256(endpoint),
        }
    }

    /// Whether this process said it.
    pub fn is_from(&self, pod: &str, since: UnixMillis) -> bool {
        self.pod == pod && self.since == since
    }

    /// Whether this endpoint is meant, at this URL.
    pub fn is_about(&self, endpoint: &Endpoint) -> bool {
        self.endpoint == endpoint.id && self.url_sha256 == url_sha256(endpoint)
    }
}

fn url_sha256(endpoint: &Endpoint) -> String {
    let digest = Sha256::digest(endpoint.url.as_str());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What one dispatcher knows of its endpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusReply {
    /// The request's id.
    pub id: String,
    /// Which process answers.
    pub pod: String,
    /// Since when it runs.
    pub since: UnixMillis,
    /// This part, from 0.
    pub part: u32,
    /// How many parts the answer has, at least 1.
    pub parts: u32,
    /// The endpoints that it has had to do with.
    pub endpoints: Vec<EndpointStatus>,
    /// What it heard that processes had to drop of the history; in the first part.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<RecordsDropped>,
}

/// One endpoint, as one dispatcher sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// Which.
    pub id: EndpointId,
    /// How it stands.
    pub state: EndpointCondition,
    /// Attempts in flight.
    pub in_flight: u32,
    /// The last attempt's outcome, as in the metric `hooklane_attempts_total`.
    pub last_outcome: Option<String>,
    /// When that was.
    pub last_at: Option<UnixMillis>,
}

/// How an endpoint stands with one dispatcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointCondition {
    /// It is served.
    Ok,
    /// Attempts hang: nothing new on the fast path.
    Sick,
    /// It asked for a pause (`Retry-After`).
    Paused,
    /// It answered 410.
    Gone,
    /// Disabled by configuration.
    Disabled,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Option<ControlMessage> {
        serde_json::from_str::<Control>(json)
            .ok()
            .map(|control| control.message)
    }

    #[test]
    fn messages_are_pinned_as_json() {
        let request = Control::new(ControlMessage::StatusRequest { id: "q1".to_owned() });
        let json = r#"{"v":1,"kind":"status_request","id":"q1"}"#;
        assert_eq!(serde_json::to_string(&request).unwrap(), json);
        assert_eq!(read(json), Some(request.message));
        let pulse = Control::new(ControlMessage::Pulse);
        assert_eq!(serde_json::to_string(&pulse).unwrap(), PULSE);
        assert_eq!(read(PULSE), Some(ControlMessage::Pulse));
        let gone = EndpointGone {
            pod: "host:1".to_owned(),
            since: UnixMillis(5),
            endpoint: EndpointId::parse("shop").unwrap(),
            url_sha256: "00".to_owned(),
        };
        let json =
            r#"{"v":1,"kind":"endpoint_gone","pod":"host:1","since":5,"endpoint":"shop","url_sha256":"00"}"#;
        let gone = Control::new(ControlMessage::EndpointGone(gone));
        assert_eq!(serde_json::to_string(&gone).unwrap(), json);
        assert_eq!(read(json), Some(gone.message));
        let reply = Control::new(ControlMessage::StatusReply(StatusReply {
            id: "q1".to_owned(),
            pod: "host:1".to_owned(),
            since: UnixMillis(5),
            part: 0,
            parts: 1,
            endpoints: vec![EndpointStatus {
                id: EndpointId::parse("shop").unwrap(),
                state: EndpointCondition::Sick,
                in_flight: 3,
                last_outcome: Some("5xx".to_owned()),
                last_at: None,
            }],
            dropped: vec![],
        }));
        let json = r#"{"v":1,"kind":"status_reply","id":"q1","pod":"host:1","since":5,"part":0,"parts":1,"endpoints":[{"id":"shop","state":"sick","in_flight":3,"last_outcome":"5xx","last_at":null}]}"#;
        assert_eq!(serde_json::to_string(&reply).unwrap(), json);
        assert_eq!(read(json), Some(reply.message));
        let dropped = Control::new(ControlMessage::RecordsDropped(RecordsDropped {
            pod: "ingest host-1".to_owned(),
            since: UnixMillis(5),
            contents: 7,
            records: 0,
            last_at: UnixMillis(9),
        }));
        let json = r#"{"v":1,"kind":"records_dropped","pod":"ingest host-1","since":5,"contents":7,"records":0,"last_at":9}"#;
        assert_eq!(serde_json::to_string(&dropped).unwrap(), json);
        assert_eq!(read(json), Some(dropped.message));
    }

    #[test]
    fn a_message_of_a_later_version_is_ignored_or_read_as_far_as_it_is_known() {
        let later = r#"{"v":2,"kind":"lane_owner","lane":7,"nested":{"a":[1]}}"#;
        assert_eq!(read(later), Some(ControlMessage::Unknown));
        let more = r#"{"v":2,"kind":"status_request","id":"q1","verbose":true}"#;
        assert_eq!(
            read(more),
            Some(ControlMessage::StatusRequest { id: "q1".to_owned() })
        );
        for junk in [
            "",
            "{}",
            "[]",
            r#"{"v":1}"#,
            r#"{"kind":"status_request","id":"q1"}"#,
        ] {
            assert_eq!(read(junk), None, "{junk}");
        }
    }
}
