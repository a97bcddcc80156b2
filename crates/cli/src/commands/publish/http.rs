//! Publishing to an ingest over HTTP.

use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::StatusCode;
use reqwest::header::RETRY_AFTER;
use serde::Serialize;
use serde_json::value::RawValue;
use url::Url;

use super::{NewEvent, patience};
use crate::commands::usage;

/// How often an ingest that is busy (503, 429) is asked again, and how long at most between two tries.
const TRIES_MAX: u32 = 5;
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);
/// Most of an answer that is shown.
const ANSWER_CHARS_MAX: usize = 500;

/// A client of one ingest.
pub struct Http {
    client: reqwest::Client,
    base: Url,
    token: Option<String>,
}

/// The body of a publish request; the payload's text goes in as it is.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    event_type: &'a str,
    payload: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    channels: Vec<&'a str>,
}

#[derive(serde::Deserialize)]
struct Accepted {
    id: String,
}

impl Http {
    /// Checks the URL and makes a client.
    pub fn new(via: &str, token: Option<String>, confirm: Duration) -> anyhow::Result<Http> {
        let wrong = || usage("--via: write amqp, or the URL of an ingest, like http://127.0.0.1:8071");
        let base: Url = via.parse().map_err(|_| wrong())?;
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(wrong());
        }
        let client = reqwest::Client::builder()
            .timeout(patience(confirm))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .context("no HTTP client can be made")?;
        Ok(Http { client, base, token })
    }

    /// Publishes, and returns the event's id. An event with an id of its own is tried again while ingest is busy: a repeat is
    /// harmless. Its id is the request's key too, so that the same event again is answered as before, and only another one is refused.
    pub async fn publish(&self, event: NewEvent) -> anyhow::Result<String> {
        let payload = String::from_utf8(event.payload).context("over HTTP a payload is JSON text")?;
        let payload = RawValue::from_string(payload).context("over HTTP a payload is JSON text")?;
        let body = serde_json::to_vec(&Body {
            event_type: event.event_type.as_str(),
            payload: &payload,
            event_id: event.id.as_ref().map(|id| id.as_str()),
            channels: event.channels.iter().map(|channel| channel.as_str()).collect(),
        })?;
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| usage("--via: this URL takes no path"))?
            .pop_if_empty()
            .extend(["api", "v1", "app", event.application.as_str(), "msg"]);
        let tries = if event.id.is_some() { TRIES_MAX } else { 1 };
        for attempt in 1.. {
            let key = event.id.as_ref().map(|id| id.as_str());
            let (status, wait, text) = self.post(url.clone(), body.clone(), key).await?;
            if status.is_success() {
                let accepted: Accepted =
                    serde_json::from_str(&text).context("the answer names no event id")?;
                return Ok(accepted.id);
            }
            let is_busy = matches!(
                status,
                StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
            );
            if !is_busy || attempt >= tries {
                let text: String = text
                    .chars()
                    .filter(|c| !c.is_control())
                    .take(ANSWER_CHARS_MAX)
                    .collect();
                bail!("not accepted: {status} {text}");
            }
            tokio::time::sleep(wait).await;
        }
        bail!("not accepted")
    }

    async fn post(
        &self,
        url: Url,
        body: Vec<u8>,
        key: Option<&str>,
    ) -> anyhow::Result<(StatusCode, Duration, String)> {
        let mut request = self
            .client
            .post(url)
            .header("content-type", "application/json")
            .body(body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let response = request
            .send()
            .await
            .with_context(|| format!("{} does not answer", self.base))?;
        let status = response.status();
        let seconds = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let wait = Duration::from_secs(seconds.unwrap_or(1)).clamp(Duration::from_secs(1), RETRY_AFTER_MAX);
        let text = response.text().await.context("the answer broke off")?;
        Ok((status, wait, text))
    }
}
