//! What many endpoints in the store cost whoever follows them: memory, the start, and the time until a change is in force.
//!
//! `HOOKLANE_API__ENCRYPTION_KEY=$(openssl rand -base64 32) cargo run --release -p hooklane-store --example many_endpoints -- make|follow
//! [place] [endpoints]`. The place is a directory, or `postgres://…`. `make` fills it, `follow` measures in a process of its own; `hooklane serve` and
//! `hooklane dispatcher` can be started on the same place with the same key.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use hooklane_store::catalog::{Address, Catalog, Document, Draft, Kind, Revision};
use hooklane_store::items::{self, Application, Endpoint, EndpointSecrets, Signature};
use hooklane_store::postgres::PostgresSettings;
use hooklane_store::postgres::catalog::PostgresCatalog;
use hooklane_store::registry::{Follower, Sources};
use hooklane_store::sqlite::catalog::SqliteCatalog;
use hooklane_store::vault::Vault;
use hooklane_types::{EventType, Registry, UnixMillis};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use url::Url;

const ORGANISATION: &str = "org_main";
/// Endpoints of each application.
const EACH: usize = 10;
const CHANGES: usize = 50;
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_default();
    let place = arguments
        .next()
        .unwrap_or_else(|| "target/many-endpoints".to_owned());
    let count: usize = arguments.next().map_or(Ok(100_000), |count| count.parse())?;
    let key =
        std::env::var("HOOKLANE_API__ENCRYPTION_KEY").context("HOOKLANE_API__ENCRYPTION_KEY is not set")?;
    let vault = Arc::new(Vault::new([key.as_str()])?);
    let catalog: Arc<dyn Catalog> = match place.starts_with("postgres") {
        true => Arc::new(PostgresCatalog::open(&PostgresSettings::parse(&place)?).await?),
        false => {
            std::fs::create_dir_all(&place)?;
            Arc::new(SqliteCatalog::open(place.as_ref())?)
        }
    };
    match what.as_str() {
        "make" => make(&*catalog, &vault, count).await,
        "follow" => follow(catalog, vault, count).await,
        _ => bail!("say make or follow"),
    }
}

fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn application_of(n: usize) -> String {
    format!("app_{:026}", n / EACH)
}

async fn make(catalog: &dyn Catalog, vault: &Vault, count: usize) -> Result<()> {
    let begun = Instant::now();
    for n in 0..count {
        if n % EACH == 0 {
            let item = Application {
                name: format!("Customer {n}"),
                metadata: BTreeMap::new(),
                throttle_rate: None,
            };
            let (id, uid) = (application_of(n), Some(format!("customer-{n}")));
            insert(
                catalog,
                (Kind::Application, ORGANISATION, &id),
                uid,
                items::write(&item),
            )
            .await?;
        }
        let id = format!("ep_{n:026}");
        let item = items::write(&endpoint(vault, &id)?);
        insert(catalog, (Kind::Endpoint, &application_of(n), &id), None, item).await?;
    }
    println!("{count} endpoints made in {:.1} s", begun.elapsed().as_secs_f64());
    Ok(())
}

fn endpoint(vault: &Vault, id: &str) -> Result<Endpoint> {
    let secrets = EndpointSecrets {
        current: SECRET.to_owned(),
        old: Vec::new(),
        headers: BTreeMap::new(),
    };
    Ok(Endpoint {
        url: Url::parse(&format!("https://hooks.example.com/in/{id}"))?,
        description: "Made to be counted".to_owned(),
        disabled: false,
        event_types: Some(vec![
            EventType::parse("invoice.paid")?,
            EventType::parse("user.made")?,
        ]),
        channels: None,
        metadata: BTreeMap::new(),
        retry: None,
        throttle_rate: None,
        signature: Signature::default(),
        sealed: secrets.seal(vault, id),
    })
}

async fn insert(
    catalog: &dyn Catalog,
    (kind, scope, id): (Kind, &str, &str),
    uid: Option<String>,
    content: String,
) -> Result<()> {
    let address = Address {
        kind,
        scope: scope.to_owned(),
        id: id.to_owned(),
    };
    let draft = Draft {
        address,
        uid,
        content,
    };
    catalog.insert(draft, now()).await?;
    Ok(())
}

async fn follow(catalog: Arc<dyn Catalog>, vault: Arc<Vault>, count: usize) -> Result<()> {
    let before = memory_kib("VmRSS")?;
    let begun = Instant::now();
    let (_file, base) = watch::channel(Arc::<Registry>::default());
    let sources = Sources {
        catalog: catalog.clone(),
        vault: vault.clone(),
        organisation: ORGANISATION.to_owned(),
        base,
        clock: now,
    };
    let (follower, mut followed) = Follower::load(sources).await?;
    println!(
        "loaded in {:.2} s: {} bytes of memory for an endpoint",
        begun.elapsed().as_secs_f64(),
        (memory_kib("VmRSS")? - before) * 1024 / count as u64
    );
    let stop = CancellationToken::new();
    let following = tokio::spawn(follower.follow(stop.clone()));
    let (mut in_force, mut answered) = (Vec::new(), Vec::new());
    for change in 0..CHANGES {
        let n = change * 7919 % count;
        let read = catalog
            .get(Kind::Endpoint, &application_of(n), &format!("ep_{n:026}"))
            .await?;
        let read = read.context("it is not there: run `make` first")?;
        let begun = Instant::now();
        let revision = change_one(&*catalog, &read).await?;
        answered.push(begun.elapsed());
        followed.applied.wait_for(|applied| *applied >= revision).await?;
        in_force.push(begun.elapsed());
    }
    for (what, mut times) in [("written", answered), ("in force", in_force)] {
        times.sort();
        let (median, longest) = (ms(times[CHANGES / 2]), ms(times[CHANGES - 1]));
        println!("a change is {what} after {median:.1} ms, {longest:.1} ms at most");
    }
    println!(
        "peak: {} MiB, {} before",
        memory_kib("VmHWM")? / 1024,
        before / 1024
    );
    stop.cancel();
    following.await?;
    Ok(())
}

async fn change_one(catalog: &dyn Catalog, read: &Document) -> Result<Revision> {
    let mut item: Endpoint = items::read(read)?;
    item.disabled = !item.disabled;
    let changed = catalog.update(read, None, items::write(&item), now()).await?;
    Ok(changed.revision)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// A line of `/proc/self/status`.
fn memory_kib(line: &str) -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let found = text
        .lines()
        .find_map(|found| found.strip_prefix(line)?.strip_prefix(':'));
    let found = found.with_context(|| format!("no {line}"))?;
    Ok(found.trim().trim_end_matches(" kB").parse()?)
}
