//! `hooklane demo`: the whole way of an event on one screen. What is said was seen; what is not seen ends it with an error.

mod stage;

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use clap::Args;
use hooklane_receiver::{Reply, Request, Verdict};
use tokio::time::timeout;

use self::stage::{ALL, ATTEMPTS, BROKEN, FIRST_WAIT, STEP, Serving, Stage};
use super::{block_on, print};

/// The whole demo ends within this.
const LIMIT: Duration = Duration::from_secs(60);
/// What producers publish: type and payload.
const EVENTS: [(&str, &str); 3] = [
    (
        "payment.succeeded",
        r#"{"payment": "pay_17", "amount": 49.90, "currency": "EUR"}"#,
    ),
    ("build_completed", r#"{"build": 4711, "status": "passed"}"#),
    ("alert.raised", r#"{"alert": "disk", "level": "critical"}"#),
];

#[derive(Args)]
pub struct Demo {}

impl Demo {
    /// Shows it. The directory it plays in is removed.
    pub fn run(self) -> anyhow::Result<()> {
        block_on(async {
            let stage = Stage::new().await?;
            let shown = tokio::select! {
                shown = timeout(LIMIT, show(&stage)) => shown.unwrap_or_else(|_| Err(anyhow!("not all of it was seen within {LIMIT:?}"))),
                _ = tokio::signal::ctrl_c() => return Err(anyhow!("interrupted")),
            };
            if shown.is_err() {
                print::note(format_args!("the log of `hooklane serve`:\n{}", stage.log()));
            }
            shown
        })
    }
}

/// Lines with the time since the beginning.
struct Screen {
    began: Instant,
}

impl Screen {
    fn say(&self, text: impl Display) -> anyhow::Result<()> {
        print::line(format_args!(
            "{:5.1} s  {text}",
            self.began.elapsed().as_secs_f64()
        ))
    }

    /// What a command printed.
    fn show(&self, output: &str) -> anyhow::Result<()> {
        output
            .lines()
            .try_for_each(|line| print::line(format_args!("         {line}")))
    }
}

async fn show(stage: &Stage) -> anyhow::Result<()> {
    let screen = Screen {
        began: Instant::now(),
    };
    screen.say(format_args!(
        "in {}: an endpoint `{}` for all events, and `{}` for alert.*, which is broken today",
        stage.path().display(),
        ALL.0,
        BROKEN.0
    ))?;
    stage.receiver.script(BROKEN.1, [Reply::status(500)]);
    let serving = stage.serve().await?;
    screen.say(format_args!(
        "$ hooklane serve              # HTTP in on {}, its queue in ./hooklane-data",
        serving.url
    ))?;
    let ids = publish(stage, &serving, &screen).await?;
    arrive(stage, &screen, &ids).await?;
    fail(stage, &screen).await?;
    replay(stage, &screen, &ids).await?;
    serving.stop().await?;
    screen.say("`hooklane serve` ended in order")?;
    print::line(format_args!(
        "\nAll of it was seen: {} events delivered as they were published, every signature valid; {ATTEMPTS} failures of `{}`, with the waits\n\
         between them; its dead letter, replayed under the same webhook-id. Yours: `hooklane init`, then `hooklane serve`.",
        EVENTS.len(),
        BROKEN.0
    ))
}

/// The three events, over HTTP; their ids.
async fn publish(stage: &Stage, serving: &Serving, screen: &Screen) -> anyhow::Result<Vec<String>> {
    let mut ids = Vec::new();
    for (event_type, payload) in EVENTS {
        let url = &serving.url;
        let arguments = [
            "publish",
            "--type",
            event_type,
            "--payload",
            payload,
            "--via",
            url,
        ];
        let said = stage.run(&arguments).await?;
        screen.say(format_args!(
            "$ hooklane publish --type {event_type} --payload '{payload}' --via {url}"
        ))?;
        screen.show(&said)?;
        let id = said.split_whitespace().find(|word| word.starts_with("msg_"));
        ids.push(id.context("the event has an id")?.to_owned());
    }
    Ok(ids)
}

/// Each event at the endpoint for all.
async fn arrive(stage: &Stage, screen: &Screen, ids: &[String]) -> anyhow::Result<()> {
    stage
        .receiver
        .wait_for_at(ALL.1, EVENTS.len() as u64, STEP)
        .await?;
    let received = stage.receiver.received_at(ALL.1);
    ensure!(received.len() == EVENTS.len(), "something arrived twice");
    for ((_, payload), id) in EVENTS.iter().zip(ids) {
        let request = received.iter().find(|request| request.webhook_id() == Some(id));
        let request = request.with_context(|| format!("{id} did not arrive"))?;
        ensure!(
            request.body == payload.as_bytes(),
            "{id} is not as it was published"
        );
        screen.say(format_args!("`{}` received {}", ALL.0, verified(request)?))?;
    }
    Ok(())
}

/// The broken endpoint's attempts, and where they lead.
async fn fail(stage: &Stage, screen: &Screen) -> anyhow::Result<()> {
    for attempt in 1..=ATTEMPTS {
        stage.receiver.wait_for_at(BROKEN.1, attempt, STEP).await?;
        screen.say(format_args!(
            "`{}` answered 500 to attempt {attempt} of {ATTEMPTS}",
            BROKEN.0
        ))?;
    }
    let attempts = stage.receiver.received_at(BROKEN.1);
    let mut wait = FIRST_WAIT;
    for pair in attempts.windows(2) {
        ensure!(
            pair[1].at.duration_since(pair[0].at) >= wait,
            "a retry came too early"
        );
        wait *= 2;
    }
    let list = listed(stage, |list| list.contains(BROKEN.0)).await?;
    screen.say("$ hooklane dead list            # in a second terminal")?;
    screen.show(&list)
}

/// The endpoint works again, and gets what it missed.
async fn replay(stage: &Stage, screen: &Screen, ids: &[String]) -> anyhow::Result<()> {
    stage.receiver.script(BROKEN.1, [Reply::ok()]);
    screen.say(format_args!("`{}` works again", BROKEN.0))?;
    let said = stage.run(&["dead", "replay", "--all"]).await?;
    screen.say("$ hooklane dead replay --all")?;
    screen.show(&said)?;
    stage.receiver.wait_for_at(BROKEN.1, ATTEMPTS + 1, STEP).await?;
    let received = stage.receiver.received_at(BROKEN.1);
    let alert = ids.last().map(String::as_str);
    ensure!(
        received.iter().all(|request| request.webhook_id() == alert),
        "an attempt bears another webhook-id"
    );
    let last = received.last().context("it was received")?;
    screen.say(format_args!("`{}` received {}", BROKEN.0, verified(last)?))?;
    listed(stage, |list| !list.contains(BROKEN.0)).await.map(drop)
}

/// The dead letters, once they are as they should be.
async fn listed(stage: &Stage, wanted: impl Fn(&str) -> bool) -> anyhow::Result<String> {
    let looking = async {
        loop {
            let list = stage.run(&["dead", "list"]).await?;
            if wanted(&list) {
                return Ok(list);
            }
        }
    };
    timeout(STEP, looking)
        .await
        .context("the dead letters are not as they should be")?
}

fn verified(request: &Request) -> anyhow::Result<String> {
    ensure!(
        request.verdict == Some(Verdict::Valid),
        "a signature is not valid"
    );
    Ok(format!(
        "{}, signature valid: {}",
        request.webhook_id().unwrap_or_default(),
        String::from_utf8_lossy(&request.body)
    ))
}
