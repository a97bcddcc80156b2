//! `eventId` is used once, whichever process takes it. Driven as a user does, by the built binary.

mod installation;
mod stage;

use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::future::join;
use futures_util::{StreamExt, stream};
use hooklane_testkit::eventually;
use installation::{Pod, Pods};
use serde_json::json;
use stage::SOON;

const UNASKED: &str = "hooklane_event_ids_unanswered_total";
const UNCLAIMED: &str = "hooklane_claims_unanswered_total";
const DUPLICATE: &str = "hooklane_events_duplicate_total";

/// Publishes with an `eventId`; the status of the answer.
async fn publish(pods: &Pods, ingest: &Pod, id: &str) -> Result<u16> {
    let body = json!({"eventType": "a.b", "eventId": id, "payload": {"id": id}});
    let request = pods
        .stage
        .http
        .post(format!("{}/api/v1/app/acme/msg", ingest.url));
    let answer = request
        .bearer_auth(&pods.token)
        .header("content-type", "application/json")
        .body(body.to_string())
        .send()
        .await?;
    let status = answer.status().as_u16();
    ensure!(
        status == 202 || status == 409,
        "{status} {}",
        answer.text().await?
    );
    Ok(status)
}

struct Running {
    pods: Pods,
    _control: Pod,
    ingests: [Pod; 2],
    dispatchers: [Pod; 2],
}

impl Running {
    async fn start() -> Result<Running> {
        let pods = Pods::new().await?;
        let control = pods.start("control").await?;
        let ingests = [pods.start("ingest").await?, pods.start("ingest").await?];
        let dispatchers = [pods.start("dispatcher").await?, pods.start("dispatcher").await?];
        pods.pair(&control, "acme").await?;
        Ok(Running {
            pods,
            _control: control,
            ingests,
            dispatchers,
        })
    }

    async fn sum(&self, of: &[Pod; 2], name: &str) -> Result<f64> {
        Ok(self.pods.metric(&of[0], name).await? + self.pods.metric(&of[1], name).await?)
    }

    /// Waits until these events are delivered or dropped as repeats; no more repeats are delivered than went out unclaimed.
    async fn taken(&self, accepted: usize) -> Result<()> {
        let receiver = &self.pods.stage.receiver;
        eventually("all to be taken", SOON, || async {
            let dropped = self.sum(&self.dispatchers, DUPLICATE).await?;
            let total = receiver.total() as f64 + dropped;
            ensure!(total >= accepted as f64, "{total} of {accepted}");
            Ok(())
        })
        .await?;
        let again = receiver.total() as usize - receiver.by_webhook_id().len();
        let unclaimed = self.sum(&self.dispatchers, UNCLAIMED).await?;
        ensure!(
            again as f64 <= unclaimed,
            "{again} repeats, {unclaimed} unclaimed"
        );
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_id_at_two_ingests_at_once_makes_one_delivery_and_is_refused_afterwards() -> Result<()> {
    // Goal: of two at once one is accepted at least; afterwards both ingests refuse, unless the store is away: then it is counted.
    let running = Running::start().await?;
    let (pods, [one, two]) = (&running.pods, &running.ingests);
    let count = 100;
    let pairs = (0..count).map(|n| {
        let id = format!("order-{n}");
        async move { join(publish(pods, one, &id), publish(pods, two, &id)).await }
    });
    let pairs: Vec<_> = stream::iter(pairs).buffer_unordered(4).collect().await;
    let mut accepted = 0;
    for (first, second) in pairs {
        let both = [first?, second?];
        ensure!(both.contains(&202), "{both:?}");
        accepted += both.iter().filter(|status| **status == 202).count();
    }
    running.taken(accepted).await?;
    ensure!(pods.stage.receiver.by_webhook_id().len() == count);
    let mut refused = 0;
    for n in 0..count {
        for ingest in [one, two] {
            refused += usize::from(publish(pods, ingest, &format!("order-{n}")).await? == 409);
        }
    }
    let unasked = running.sum(&running.ingests, UNASKED).await?;
    println!("100 ids twice: {accepted} accepted, then {refused} of 200 refused, {unasked} unasked");
    ensure!(
        (2 * count - refused) as f64 <= 2.0 * unasked && refused > count,
        "{refused}, {unasked}"
    );
    pods.server.kill9().await?;
    ensure!(publish(pods, one, "order-0").await? == 202);
    ensure!(running.sum(&running.ingests, UNASKED).await? > unasked);
    pods.server.restart().await?;
    eventually("the store to be asked", SOON, || async {
        ensure!(publish(pods, one, "order-1").await? == 409);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_ingest_leads_to_no_refusal_of_an_event_that_was_not_sent() -> Result<()> {
    // Method: kill -9 in the middle of 300 publishes; then all of them again at another ingest. Whatever it answers, all arrive.
    let running = Running::start().await?;
    let (pods, [one, two]) = (&running.pods, &running.ingests);
    let count = 300;
    let ids: Vec<String> = (0..count).map(|n| format!("order-{n}")).collect();
    let load = stream::iter(&ids)
        .map(|id| async move { publish(pods, one, id).await.is_ok_and(|status| status == 202) })
        .buffer_unordered(8)
        .collect::<Vec<_>>();
    let kill = async {
        pods.stage.receiver.wait_for(60, SOON).await?;
        one.process.kill9().await
    };
    let (answered, killed) = join(load, kill).await;
    killed?;
    let answered = answered.into_iter().filter(|is_accepted| *is_accepted).count();
    let (mut accepted, mut refused) = (0, 0);
    for id in &ids {
        match publish(pods, two, id).await? {
            202 => accepted += 1,
            _ => refused += 1,
        }
    }
    println!("{answered} of 300 answered before the kill; then {accepted} accepted, {refused} refused");
    ensure!(answered < count && accepted > 0, "killed too late");
    ensure!(refused > 20, "nothing was known");
    running.taken(refused + accepted).await?;
    let arrived = || pods.stage.receiver.by_webhook_id().len();
    eventually("all to arrive", SOON, || async {
        ensure!(arrived() == count, "{}", arrived());
        Ok(())
    })
    .await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    running.taken(0).await
}
