//! The bare loop on SQLite, without features: insert in group commits; select, sign, POST with reqwest, delete.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::pace::Pace;
use super::post::Post;
use super::sqlite::Table;
use crate::clock::now_us;
use crate::histogram::Histogram;
use crate::part::{Done, Orders, Said, say};
use crate::payload;

/// What to do.
#[derive(Debug, Serialize, Deserialize)]
pub struct Spec {
    /// Where the file is.
    pub directory: PathBuf,
    /// How many events to insert; 0: none.
    pub insert: u64,
    /// Where to POST; none: nowhere.
    pub receiver: Option<String>,
    /// The signing secret.
    pub secret: String,
    /// Rows in one transaction.
    pub batch: usize,
    /// Most POSTs at once.
    pub concurrency: usize,
    /// Events a second to insert; without it, as fast as it goes.
    pub per_second: Option<f64>,
}

/// Inserts and delivers from when it is told to go; says when all is inserted, and delivers until the bench has gone.
pub async fn run(spec: Spec, mut orders: Orders) -> anyhow::Result<()> {
    let table = Table::open(&spec.directory)?;
    let spec = Arc::new(spec);
    say(&Said::Ready { address: None })?;
    if !orders.go().await? {
        return Ok(());
    }
    let (inserted, news) = watch::channel(());
    let mut tasks = JoinSet::new();
    if let Some(receiver) = &spec.receiver {
        let post = Arc::new(Post::new(receiver, &spec.secret)?);
        let (to_send, rows) = mpsc::channel(2 * spec.batch);
        let (to_delete, sent) = mpsc::channel(2 * spec.batch);
        tasks.spawn(select(table.clone(), spec.clone(), news, to_send));
        tasks.spawn(deliver(post, spec.clone(), rows, to_delete));
        tasks.spawn(delete(table.clone(), spec.batch, sent));
    }
    let working = async {
        if spec.insert > 0 {
            say(&Said::Done(insert(&table, &spec, &inserted).await?))?;
        }
        orders.end().await
    };
    tokio::select! {
        ended = working => ended,
        Some(ended) = tasks.join_next() => ended?,
    }
}

async fn insert(table: &Table, spec: &Spec, inserted: &watch::Sender<()>) -> anyhow::Result<Done> {
    let begun_us = now_us();
    let mut latency = Histogram::new();
    let pace = Pace::new(spec.per_second);
    // At a pace, a group is what comes within about a millisecond.
    let group = match spec.per_second {
        Some(per_second) => (per_second / 1000.0).ceil() as usize,
        None => spec.batch,
    } as u64;
    let mut number = 0;
    while number < spec.insert {
        pace.wait(number).await;
        let count = group.min(spec.insert - number);
        let at_us = now_us();
        // SQLite would begin anew with a table that was emptied.
        let first = (number + 1).cast_signed();
        table
            .insert(first, (0..count).map(|_| payload::now()).collect())
            .await?;
        let took = now_us().saturating_sub(at_us);
        (0..count).for_each(|_| latency.add(took));
        number += count;
        inserted.send_replace(());
    }
    Ok(Done {
        begun_us,
        ended_us: now_us(),
        confirmed: spec.insert,
        latency: latency.quantiles(),
    })
}

type Row = (i64, Vec<u8>);

async fn select(
    table: Table,
    spec: Arc<Spec>,
    mut news: watch::Receiver<()>,
    to_send: mpsc::Sender<Row>,
) -> anyhow::Result<()> {
    let mut last = 0;
    loop {
        news.mark_unchanged();
        let rows = table.after(last, spec.batch).await?;
        if rows.is_empty() && news.changed().await.is_err() {
            return Ok(());
        }
        for row in rows {
            last = row.0;
            to_send.send(row).await?;
        }
    }
}

async fn deliver(
    post: Arc<Post>,
    spec: Arc<Spec>,
    mut rows: mpsc::Receiver<Row>,
    to_delete: mpsc::Sender<i64>,
) -> anyhow::Result<()> {
    let places = Arc::new(Semaphore::new(spec.concurrency));
    let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
    while let Some((seq, body)) = rows.recv().await {
        let place = places.clone().acquire_owned().await?;
        let (post, to_delete) = (post.clone(), to_delete.clone());
        tasks.spawn(async move {
            post.send(Bytes::from(body)).await?;
            drop(place);
            Ok(to_delete.send(seq).await?)
        });
        while let Some(ended) = tasks.try_join_next() {
            ended??;
        }
    }
    Ok(())
}

async fn delete(table: Table, batch: usize, mut sent: mpsc::Receiver<i64>) -> anyhow::Result<()> {
    loop {
        let mut seqs = Vec::with_capacity(batch);
        if sent.recv_many(&mut seqs, batch).await == 0 {
            return Ok(());
        }
        table.delete(seqs).await?;
    }
}
