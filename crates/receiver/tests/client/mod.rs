//! An HTTP client for both versions of HTTP, with and without TLS.

use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

pub struct Client(Legacy<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Client {
    pub fn new(version: Version, tls: Option<Arc<rustls::ClientConfig>>) -> Client {
        let tls = tls.map(Arc::unwrap_or_clone).unwrap_or_else(|| {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .expect("ring knows the default versions of TLS")
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth()
        });
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        let mut builder = Legacy::builder(TokioExecutor::new());
        Client(if version == Version::HTTP_2 {
            builder.http2_only(true).build(connector.enable_http2().build())
        } else {
            builder.build(connector.enable_http1().build())
        })
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
        Ok(self.0.request(request).await?)
    }

    pub async fn post(&self, url: &str, id: &str, body: &'static str) -> Result<Response<Incoming>> {
        let request = Request::post(url).header("webhook-id", id);
        self.send(request.body(Full::from(body))?).await
    }

    pub async fn status(&self, url: &str, id: &str) -> Result<u16> {
        let response = self.post(url, id, "{}").await?;
        let status = response.status().as_u16();
        // Read to its end, so that the connection is free again.
        response.into_body().collect().await?;
        Ok(status)
    }
}
