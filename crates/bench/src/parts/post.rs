//! What the bare loops do with an event: sign it and POST it with reqwest.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::ensure;
use bytes::Bytes;
use hooklane_signing::{HeaderFamily, Scheme, Secret, Signer};

/// Signs and sends.
pub struct Post {
    http: reqwest::Client,
    signer: Signer,
    url: reqwest::Url,
    next: AtomicU64,
}

impl Post {
    /// To this URL, with this secret.
    ///
    /// # Errors
    /// When one of them is none.
    pub fn new(url: &str, secret: &str) -> anyhow::Result<Post> {
        Ok(Post {
            http: reqwest::Client::builder().no_proxy().build()?,
            signer: Signer::new(
                Scheme::Standard(HeaderFamily::Webhook),
                vec![Secret::parse(secret)?],
            )?,
            url: reqwest::Url::parse(url)?,
            next: AtomicU64::new(0),
        })
    }

    /// One event.
    ///
    /// # Errors
    /// When the answer is no success: the bare loop has no retries.
    pub async fn send(&self, body: Bytes) -> anyhow::Result<()> {
        let id = format!("msg_{:026}", self.next.fetch_add(1, Ordering::Relaxed));
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let mut request = self.http.post(self.url.clone());
        for (name, value) in self.signer.sign(&id, now.cast_signed(), &body) {
            request = request.header(name, value);
        }
        let answer = request
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await?;
        ensure!(
            answer.status().is_success(),
            "the receiver answered {}",
            answer.status()
        );
        // So that the connection can be used again.
        answer.bytes().await?;
        Ok(())
    }
}
