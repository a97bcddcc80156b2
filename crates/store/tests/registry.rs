//! The registry follows the catalog.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use hooklane_store::catalog::{Address, Catalog, Document, Draft, Kind};
use hooklane_store::items::{
    self, Application, Endpoint, EndpointSecrets, Key, OldSecret, Signature, StaticKey,
};
use hooklane_store::registry::{Followed, Follower, LoadError, Snapshot, SnapshotKeeper, Sources};
use hooklane_store::sqlite::catalog::SqliteCatalog;
use hooklane_store::vault::Vault;
use hooklane_testkit::eventually;
use hooklane_types::{ApplicationId, EndpointId, Registry, UnixMillis};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use url::Url;

/// A second's promise, three times.
const SOON: Duration = Duration::from_secs(3);
const NEW: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OLD: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

struct Site {
    directory: tempfile::TempDir,
    catalog: Arc<dyn Catalog>,
    vault: Arc<Vault>,
    base: watch::Sender<Arc<Registry>>,
    stop: CancellationToken,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Site {
    fn new() -> Result<Site> {
        let directory = tempfile::tempdir()?;
        Ok(Site {
            catalog: Arc::new(SqliteCatalog::open(directory.path())?),
            directory,
            vault: Arc::new(Vault::new([Vault::fresh_key().as_str()])?),
            base: watch::Sender::default(),
            stop: CancellationToken::new(),
        })
    }

    fn sources(&self) -> Sources {
        Sources {
            catalog: self.catalog.clone(),
            vault: self.vault.clone(),
            organisation: "org_a".to_owned(),
            base: self.base.subscribe(),
            clock: now,
        }
    }

    async fn follow(&self) -> Result<Followed> {
        let (follower, followed) = Follower::load(self.sources()).await?;
        tokio::spawn(follower.follow(self.stop.clone()));
        Ok(followed)
    }

    async fn application(&self, id: &str, uid: Option<&str>) -> Result<Document> {
        let item = Application {
            name: "Acme".to_owned(),
            metadata: BTreeMap::new(),
            throttle_rate: None,
        };
        self.insert(Kind::Application, "org_a", id, uid, items::write(&item))
            .await
    }

    async fn insert(
        &self,
        kind: Kind,
        scope: &str,
        id: &str,
        uid: Option<&str>,
        content: String,
    ) -> Result<Document> {
        let address = Address {
            kind,
            scope: scope.to_owned(),
            id: id.to_owned(),
        };
        let uid = uid.map(str::to_owned);
        Ok(self
            .catalog
            .insert(
                Draft {
                    address,
                    uid,
                    content,
                },
                now(),
            )
            .await?)
    }

    async fn endpoint(&self, id: &str, old: Vec<OldSecret>) -> Result<Document> {
        let content = items::write(&self.item(id, old)?);
        self.insert(Kind::Endpoint, "app_1", id, None, content).await
    }

    fn item(&self, id: &str, old: Vec<OldSecret>) -> Result<Endpoint> {
        let secrets = EndpointSecrets {
            current: NEW.to_owned(),
            old,
            headers: BTreeMap::new(),
        };
        Ok(Endpoint {
            url: Url::parse("https://example.com/hook")?,
            description: String::new(),
            disabled: false,
            event_types: None,
            channels: None,
            metadata: BTreeMap::new(),
            throttle_rate: None,
            retry: None,
            signature: Signature::default(),
            sealed: secrets.seal(&self.vault, id),
        })
    }
}

/// How many secrets the endpoint signs with; none when there is no such endpoint.
fn signatures(followed: &Followed, id: &str) -> Option<usize> {
    let registry = followed.registry.borrow();
    let endpoint = registry.endpoint(&EndpointId::parse(id).ok()?)?;
    let signed = endpoint.signer.sign("msg_1", 1, b"{}");
    let (_, value) = signed.into_iter().find(|(name, _)| *name == "svix-signature")?;
    Some(value.split(' ').count())
}

async fn until_applied(followed: &mut Followed, document: &Document) -> Result<()> {
    let applied = followed.applied.wait_for(|applied| *applied >= document.revision);
    tokio::time::timeout(SOON, applied).await??;
    Ok(())
}

#[tokio::test]
async fn each_change_is_in_force_within_a_second() -> Result<()> {
    let site = Site::new()?;
    let before = site.application("app_1", Some("acme")).await?;
    let mut followed = site.follow().await?;
    let (id, uid) = (ApplicationId::parse("app_1")?, ApplicationId::parse("acme")?);
    ensure!(
        followed.registry.borrow().resolve(&uid) == Some(&id),
        "what was there is loaded"
    );
    ensure!(*followed.applied.borrow() == before.revision);

    let endpoint = site.endpoint("ep_1", Vec::new()).await?;
    until_applied(&mut followed, &endpoint).await?;
    ensure!(
        signatures(&followed, "ep_1") == Some(1),
        "applied is said after it is in force"
    );

    let mut item: Endpoint = items::read(&endpoint)?;
    item.disabled = true;
    let endpoint = site
        .catalog
        .update(&endpoint, None, items::write(&item), now())
        .await?;
    until_applied(&mut followed, &endpoint).await?;
    let known = followed
        .registry
        .borrow()
        .endpoint(&EndpointId::parse("ep_1")?)
        .cloned();
    ensure!(known.context("there")?.disabled);

    let in_file = ApplicationId::parse("in_file")?;
    site.base
        .send_replace(Arc::new(Registry::new([in_file.clone()], [])?));
    eventually("what stands in the file to be known beside it", SOON, || async {
        ensure!(followed.registry.borrow().knows(&in_file) && followed.registry.borrow().knows(&uid));
        Ok(())
    })
    .await?;

    site.catalog.remove(&before.address, now()).await?;
    eventually("the application to be gone with its endpoint", SOON, || async {
        ensure!(signatures(&followed, "ep_1").is_none() && !followed.registry.borrow().knows(&uid));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_replaced_secret_signs_until_its_time() -> Result<()> {
    let site = Site::new()?;
    site.application("app_1", None).await?;
    let until_ms = now().0 + 1_500;
    let old = || {
        vec![OldSecret {
            text: OLD.to_owned(),
            until_ms,
        }]
    };
    // One that is loaded, and one that is told.
    site.endpoint("ep_1", old()).await?;
    let mut followed = site.follow().await?;
    let told = site.endpoint("ep_2", old()).await?;
    until_applied(&mut followed, &told).await?;
    for id in ["ep_1", "ep_2"] {
        ensure!(signatures(&followed, id) == Some(2), "{id}");
    }
    eventually("both to end", SOON + Duration::from_secs(2), || async {
        let counts = [signatures(&followed, "ep_1"), signatures(&followed, "ep_2")];
        ensure!(
            counts.contains(&Some(2)) || now().0 >= until_ms,
            "one ended early"
        );
        ensure!(counts == [Some(1), Some(1)]);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn with_another_key_nothing_is_loaded() -> Result<()> {
    let mut site = Site::new()?;
    site.application("app_1", None).await?;
    site.endpoint("ep_1", Vec::new()).await?;
    site.endpoint("ep_2", Vec::new()).await?;
    site.vault = Arc::new(Vault::new([Vault::fresh_key().as_str()])?);
    let error = Follower::load(site.sources()).await.err();
    let Some(LoadError::Unusable { count: 2, first }) = error else {
        anyhow::bail!("{error:?}");
    };
    ensure!(
        first.contains("ep_1") && first.contains("not among the keys"),
        "{first}"
    );
    Ok(())
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_read_stays_as_it_was() -> Result<()> {
    // Goal: somebody wrote it with another key; its deliveries go on.
    let site = Site::new()?;
    site.application("app_1", None).await?;
    let endpoint = site.endpoint("ep_1", Vec::new()).await?;
    let mut followed = site.follow().await?;
    let foreign = Endpoint {
        sealed: Vault::new([Vault::fresh_key().as_str()])?.seal("ep_1", "{}"),
        ..items::read(&endpoint)?
    };
    for content in [items::write(&foreign), "{}".to_owned()] {
        let read = site
            .catalog
            .get(Kind::Endpoint, "app_1", "ep_1")
            .await?
            .context("there")?;
        let broken = site.catalog.update(&read, None, content, now()).await?;
        until_applied(&mut followed, &broken).await?;
        ensure!(signatures(&followed, "ep_1") == Some(1));
    }
    Ok(())
}

#[tokio::test]
async fn keys_of_the_api_follow_and_one_that_cannot_be_read_opens_nothing() -> Result<()> {
    let site = Site::new()?;
    let draft = |id: &str, content: String| Draft {
        address: Address {
            kind: Kind::Key,
            scope: "org_a".to_owned(),
            id: id.to_owned(),
        },
        uid: None,
        content,
    };
    let key = StaticKey {
        name: "x".to_owned(),
        sha256: "0".repeat(64),
        application: None,
        until_ms: None,
    };
    let content = items::write(&Key::Static(key.clone()));
    let first = site
        .catalog
        .insert(draft("key_1", content.clone()), now())
        .await?;
    site.catalog
        .insert(draft("key_2", "{}".to_owned()), now())
        .await?;
    let mut followed = site.follow().await?;
    ensure!(followed.keys.borrow().get("key_1") == Some(("org_a", &key)));
    ensure!(followed.keys.borrow().get("key_2").is_none());
    let second = site.catalog.insert(draft("key_3", content), now()).await?;
    until_applied(&mut followed, &second).await?;
    ensure!(followed.keys.borrow().get("key_3").is_some());
    site.catalog.remove(&first.address, now()).await?;
    eventually("the end of a key", SOON, || async {
        ensure!(followed.keys.borrow().get("key_1").is_none());
        Ok(())
    })
    .await?;
    let ended = items::write(&Key::Ended { until_ms: 1 });
    let ended = site.catalog.insert(draft("end_1", ended), now()).await?;
    until_applied(&mut followed, &ended).await?;
    ensure!(followed.keys.borrow().is_ended("end_1") && !followed.keys.borrow().is_ended("key_3"));
    Ok(())
}

#[tokio::test]
async fn a_snapshot_serves_a_start_and_one_that_is_not_whole_serves_none() -> Result<()> {
    // Goal: deliveries to an endpoint that a start does not know would be given up. Method: the file is cut behind each of its lines.
    let site = Site::new()?;
    site.application("app_1", Some("acme")).await?;
    site.endpoint("ep_1", Vec::new()).await?;
    let newest = site.endpoint("ep_2", Vec::new()).await?;
    let followed = site.follow().await?;
    let path = site.directory.path().join("snapshot");
    let keeper = SnapshotKeeper {
        catalog: site.catalog.clone(),
        path: path.clone(),
        applied: followed.applied,
    };
    tokio::spawn(keeper.run(site.stop.clone()));
    let resume = || {
        let snapshot = Snapshot::open(&path)?.context("there is none")?;
        anyhow::Ok(Follower::resume(site.sources(), snapshot))
    };
    eventually("the file", SOON, || async { resume().map(drop) }).await?;
    let (_, resumed) = resume()??;
    ensure!(*resumed.applied.borrow() == newest.revision);
    ensure!(signatures(&resumed, "ep_1") == Some(1) && signatures(&resumed, "ep_2") == Some(1));
    let whole = std::fs::read_to_string(&path)?;
    let lines: Vec<&str> = whole.lines().collect();
    for kept in 0..lines.len() {
        std::fs::write(&path, lines[..kept].join("\n"))?;
        let error = resume()?.err();
        ensure!(
            matches!(error, Some(LoadError::Snapshot(_))),
            "{kept} lines: {error:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_start_by_a_snapshot_is_current_once_it_has_what_is_newer() -> Result<()> {
    // Goal: nobody who was told so looks at the registry of before. Method: an endpoint that is newer than the file.
    let site = Site::new()?;
    site.application("app_1", Some("acme")).await?;
    let followed = site.follow().await?;
    ensure!(*followed.is_current.borrow(), "what was loaded is current");
    let path = site.directory.path().join("snapshot");
    let keeper = SnapshotKeeper {
        catalog: site.catalog.clone(),
        path: path.clone(),
        applied: followed.applied,
    };
    let keeping = tokio::spawn(keeper.run(site.stop.clone()));
    let snapshot = eventually("the file", SOON, || async {
        Snapshot::open(&path)?.context("there is none")
    })
    .await?;
    keeping.abort();
    let newer = site.endpoint("ep_1", Vec::new()).await?;
    let (follower, mut resumed) = Follower::resume(site.sources(), snapshot)?;
    ensure!(!*resumed.is_current.borrow() && signatures(&resumed, "ep_1").is_none());
    tokio::spawn(follower.follow(site.stop.clone()));
    tokio::time::timeout(SOON, resumed.is_current.wait_for(|is_current| *is_current)).await??;
    ensure!(
        signatures(&resumed, "ep_1") == Some(1),
        "it is current without what is newer"
    );
    ensure!(*resumed.applied.borrow() == newer.revision);
    Ok(())
}

#[tokio::test]
async fn a_registry_that_cannot_be_put_in_force_is_not_current() -> Result<()> {
    // Goal: what is known and not in force is not missing. Method: the settings file gets an endpoint of the store's next id.
    let site = Site::new()?;
    site.application("app_1", None).await?;
    let mut followed = site.follow().await?;
    let (elsewhere, known) = (Site::new()?, ApplicationId::parse("app_file")?);
    elsewhere.application("app_1", None).await?;
    elsewhere.endpoint("ep_1", Vec::new()).await?;
    let in_file = elsewhere.follow().await?.registry.borrow().clone();
    site.base.send_replace(in_file);
    let has_it = |base: &Arc<Registry>| base.endpoints().next().is_some();
    tokio::time::timeout(SOON, followed.base.wait_for(has_it)).await??;
    let twice = site.endpoint("ep_1", Vec::new()).await?;
    until_applied(&mut followed, &twice).await?;
    tokio::time::timeout(SOON, followed.is_current.wait_for(|is_current| !is_current)).await??;
    site.base.send_replace(Arc::new(Registry::new([known], [])?));
    tokio::time::timeout(SOON, followed.is_current.wait_for(|is_current| *is_current)).await??;
    ensure!(signatures(&followed, "ep_1") == Some(1));
    Ok(())
}

#[tokio::test]
async fn an_id_that_another_application_has_already_is_not_taken_from_it() -> Result<()> {
    let site = Site::new()?;
    site.application("app_1", None).await?;
    site.application("app_2", None).await?;
    site.endpoint("ep_1", Vec::new()).await?;
    let mut followed = site.follow().await?;
    let content = items::write(&site.item("ep_1", Vec::new())?);
    let twice = site
        .insert(Kind::Endpoint, "app_2", "ep_1", None, content)
        .await?;
    until_applied(&mut followed, &twice).await?;
    let known = followed
        .registry
        .borrow()
        .endpoint(&EndpointId::parse("ep_1")?)
        .cloned();
    ensure!(known.context("there")?.application == ApplicationId::parse("app_1")?);
    ensure!(matches!(
        Follower::load(site.sources()).await,
        Err(LoadError::Unusable { count: 1, .. })
    ));
    Ok(())
}
