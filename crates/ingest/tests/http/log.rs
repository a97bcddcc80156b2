//! What the log says.

use std::io;
use std::sync::{Arc, Mutex};

use hooklane_broker::BrokerError;
use hooklane_ingest::{IngestSettings, Token};
use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

use crate::fixture::{PATH, Running};

/// Lines in memory.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

#[tokio::test]
async fn each_publish_is_one_line_without_payload_and_token() {
    // Goal: accepted and refused publishes each leave one line with the fields that are searched for, and no secret.
    // A test's runtime has one thread, so its subscriber sees all tasks of this test and none of others.
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_writer(lines.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let settings = IngestSettings {
        token: Some(Token::new("t0ken").unwrap()),
        ..IngestSettings::default()
    };
    let (ingest, broker) = Running::scripted(settings).await;
    let mut connection = ingest.connect().await;
    let body = r#"{"eventType":"invoice.paid","payload":{"card":"4111"}}"#;
    let token = "authorization: Bearer t0ken";

    let accepted = connection.request("POST", PATH, &[token], body).await;
    assert_eq!(accepted.status, 202);
    broker.fail_next(BrokerError::Unavailable("connection refused".into()));
    assert_eq!(connection.request("POST", PATH, &[token], body).await.status, 503);
    let wrong = r#"{"eventType":"invoice.paid","payload":"4111"}"#;
    assert_eq!(
        connection.request("POST", PATH, &[token], wrong).await.status,
        422
    );
    let stranger = ["authorization: Bearer t0ken-not"];
    assert_eq!(
        connection.request("POST", PATH, &stranger, body).await.status,
        401
    );

    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(!text.contains("4111") && !text.contains("t0ken"), "{text}");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let lines: Vec<&Value> = lines.iter().filter(|line| line["way"].is_string()).collect();
    assert_eq!(lines.len(), 4, "{text}");

    let line = lines[0];
    assert_eq!(
        (&line["message"], &line["level"]),
        (&json!("event accepted"), &json!("INFO"))
    );
    assert_eq!(line["event.id"], accepted.json()["id"]);
    assert_eq!(
        (&line["event.type"], &line["application"]),
        (&json!("invoice.paid"), &json!("acme"))
    );
    assert_eq!((&line["bytes"], &line["way"]), (&json!(15), &json!("http")));
    assert!(line["duration_ms"].is_number() && line["peer"].as_str().unwrap().starts_with("127.0.0.1:"));

    let reasons: Vec<_> = lines[1..]
        .iter()
        .map(|line| (&line["reason"], &line["status"], &line["level"]))
        .collect();
    assert_eq!(
        reasons,
        [
            (&json!("unavailable"), &json!(503), &json!("WARN")),
            (&json!("invalid"), &json!(422), &json!("INFO")),
            (&json!("unauthorized"), &json!(401), &json!("INFO")),
        ]
    );
    // A size that was not read is not told as 0.
    assert!(lines[1]["bytes"].is_number(), "{}", lines[1]);
    assert_eq!((lines[2].get("bytes"), lines[3].get("bytes")), (None, None));
    assert!(
        lines[1]["event.id"].is_string()
            && lines[1]["detail"]
                .as_str()
                .unwrap()
                .contains("connection refused")
    );
}
