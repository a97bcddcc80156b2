//! The history over the API: messages, attempts, numbers, and what is sent again.

mod served;
#[path = "management/stage.rs"]
mod stage;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use hooklane_receiver::Reply;
use hooklane_testkit::python;
use served::{End, SOON};
use stage::{Stage, Store, on_both_stores};

on_both_stores!(
    svix_of_pypi_reads_the_history_and_sends_again,
    every_event_and_attempt_is_there_once_whenever_the_process_is_killed,
);

async fn svix_of_pypi_reads_the_history_and_sends_again(store: Store) -> Result<()> {
    let stage = Stage::on(store, "").await?;
    let token = stage.token(&[]).await?;
    let mended = Arc::new(AtomicBool::new(false));
    let (mend, is_mended) = (mended.clone(), mended);
    stage.receiver.script_with("/ok", move |request| {
        if request.body.as_ref() == b"{}" {
            mend.store(true, Ordering::Relaxed);
        }
        Reply::ok().body("thanks")
    });
    stage
        .receiver
        .script_with("/fail", move |_| match is_mended.load(Ordering::Relaxed) {
            true => Reply::ok(),
            false => Reply::status(500),
        });
    let base = stage.receiver.url("");
    let ended = python::script(stage::file("history.py"))?
        .args([stage.url.as_str(), token.as_str(), base.trim_end_matches('/')])
        .run(SOON)
        .await?;
    ensure!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
    Ok(())
}

async fn every_event_and_attempt_is_there_once_whenever_the_process_is_killed(store: Store) -> Result<()> {
    // Goal: kill -9 again and again while events are published, delivered and recorded: afterwards each accepted event is in the list once, and each
    // has its attempt.
    let mut stage = Stage::on(store, "").await?;
    let token = stage.token(&[]).await?;
    stage.pair(&token, "acme").await?;
    let mut accepted = Vec::new();
    for round in 0..6_u64 {
        let begun = std::time::Instant::now();
        let until = std::time::Duration::from_millis(150 + 130 * round);
        while begun.elapsed() < until {
            let event = serde_json::json!({"eventType": "a.b", "payload": {"n": accepted.len()}});
            let answer = stage.send(&token, "POST", "/app/acme/msg", Some(event)).await?;
            ensure!(answer.status == 202, "{answer:?}");
            accepted.push(answer.body["id"].as_str().unwrap_or_default().to_owned());
        }
        stage.end(End::Kill9).await?;
        stage.serve().await?;
    }
    accepted.sort();
    println!("{} events over 6 kills", accepted.len());
    hooklane_testkit::eventually("every event in the history, delivered", SOON, || async {
        let (mut listed, mut iterator) = (Vec::new(), String::new());
        loop {
            let page = stage
                .get(
                    &token,
                    &format!("/app/acme/msg?limit=250&with_content=false{iterator}"),
                )
                .await?;
            for message in page["data"].as_array().into_iter().flatten() {
                listed.push(message["id"].as_str().unwrap_or_default().to_owned());
            }
            if page["done"] == true {
                break;
            }
            iterator = format!("&iterator={}", page["iterator"].as_str().unwrap_or_default());
        }
        listed.sort();
        // One whose answer the kill cut off may be there beside.
        let mut unique = listed.clone();
        unique.dedup();
        ensure!(unique.len() == listed.len(), "an event is listed twice");
        let missing = accepted
            .iter()
            .filter(|id| listed.binary_search(id).is_err())
            .count();
        ensure!(missing == 0, "{missing} of {} events are missing", accepted.len());
        for id in &accepted {
            let attempts = stage
                .get(&token, &format!("/app/acme/attempt/msg/{id}?limit=50"))
                .await?;
            let delivered = attempts["data"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|attempt| attempt["status"] == 0)
                .count();
            ensure!(delivered >= 1, "{id} has no attempt that delivered");
        }
        Ok(())
    })
    .await
}
