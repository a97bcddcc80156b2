//! The management API, as a client.

use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;
use url::Url;

use crate::commands::usage;

/// Longest wait for an answer: a change waits for every process to have it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most of an answer that is shown.
const ANSWER_CHARS_MAX: usize = 500;

/// A client with a token.
pub struct Remote {
    client: Client,
    base: String,
    token: String,
}

impl Remote {
    /// For this URL, with the token in this variable.
    ///
    /// # Errors
    /// Usage.
    pub fn new(url: &str, token_env: &str) -> anyhow::Result<Remote> {
        let wrong = || usage("--url: write the URL of the API, like http://127.0.0.1:8071");
        let parsed: Url = url.parse().map_err(|_| wrong())?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.host().is_none() {
            return Err(wrong());
        }
        let token = std::env::var(token_env).map_err(|_| {
            usage(format!(
                "the variable {token_env} is not set: export {token_env}=$(hooklane token), or name another with --token-env"
            ))
        })?;
        let client = Client::builder()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .context("no HTTP client can be made")?;
        Ok(Remote {
            client,
            base: url.trim_end_matches('/').to_owned(),
            token: token.trim().to_owned(),
        })
    }

    /// What is there; none when nothing is.
    pub async fn get(&self, path: &str) -> anyhow::Result<Option<Value>> {
        match self.ask(Method::GET, path, None).await? {
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (status, text) if status.is_success() => Ok(Some(
                serde_json::from_str(&text).context("the answer is no JSON: is this the API?")?,
            )),
            (status, text) => bail!("{}", refused(status, &text)),
        }
    }

    /// All that a list has.
    pub async fn list(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        let mut all = Vec::new();
        let mut iterator = String::new();
        loop {
            let found = self.get(&format!("{path}?limit=250{iterator}")).await?;
            let mut page = found.with_context(|| format!("{path} is not there: is this the API?"))?;
            if let Some(rows) = page["data"].as_array_mut() {
                all.append(rows);
            }
            match page["iterator"].as_str() {
                Some(next) if page["done"] == false => iterator = format!("&iterator={next}"),
                _ => return Ok(all),
            }
        }
    }

    /// Makes or changes something.
    pub async fn send(&self, method: &str, path: &str, body: &Value) -> anyhow::Result<()> {
        let method: Method = method.parse()?;
        let (status, text) = self.ask(method, path, Some(body.to_string())).await?;
        match status.is_success() {
            true => Ok(()),
            false => bail!("{}", refused(status, &text)),
        }
    }

    /// Deletes something; what is not there is gone already.
    pub async fn delete(&self, path: &str) -> anyhow::Result<()> {
        match self.ask(Method::DELETE, path, None).await? {
            (StatusCode::NOT_FOUND, _) => Ok(()),
            (status, _) if status.is_success() => Ok(()),
            (status, text) => bail!("{}", refused(status, &text)),
        }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> anyhow::Result<(StatusCode, String)> {
        let mut request = self
            .client
            .request(method, format!("{}/api/v1{path}", self.base))
            .bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let response = request
            .send()
            .await
            .with_context(|| format!("{} does not answer", self.base))?;
        let status = response.status();
        Ok((status, response.text().await.context("the answer broke off")?))
    }
}

fn refused(status: StatusCode, text: &str) -> String {
    let shown: String = text
        .chars()
        .filter(|c| !c.is_control())
        .take(ANSWER_CHARS_MAX)
        .collect();
    format!("refused: {status} {shown}")
}
