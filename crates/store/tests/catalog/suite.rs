//! What holds for every implementation of [`Catalog`].

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use hooklane_store::catalog::{
    Address, Catalog, CatalogError, Change, Direction, Document, Draft, Kind, Page, REMOVALS_KEPT_MS,
    Revision,
};
use hooklane_types::UnixMillis;

/// A second's promise, three times.
const SEEN_WITHIN: Duration = Duration::from_secs(3);

pub fn now() -> UnixMillis {
    UnixMillis(1_700_000_000_000)
}

pub fn address(kind: Kind, scope: &str, id: &str) -> Address {
    Address {
        kind,
        scope: scope.to_owned(),
        id: id.to_owned(),
    }
}

pub fn draft(kind: Kind, scope: &str, id: &str, uid: Option<&str>) -> Draft {
    Draft {
        address: address(kind, scope, id),
        uid: uid.map(str::to_owned),
        content: format!("{{\"name\":\"{id}\"}}"),
    }
}

async fn application(catalog: &dyn Catalog, id: &str) -> Result<Document> {
    Ok(catalog
        .insert(draft(Kind::Application, "org_a", id, None), now())
        .await?)
}

async fn endpoint(catalog: &dyn Catalog, application: &str, id: &str) -> Result<Document> {
    Ok(catalog
        .insert(draft(Kind::Endpoint, application, id, None), now())
        .await?)
}

/// What a follower knows.
#[derive(Default)]
pub struct Follower {
    pub at: Revision,
    pub known: BTreeMap<Address, Document>,
    /// How often it was told everything.
    pub whole: usize,
    /// What it was told the last time.
    pub told: usize,
}

impl Follower {
    pub async fn follow(&mut self, catalog: &dyn Catalog) -> Result<()> {
        self.told = 0;
        let at = catalog
            .changes(self.at, &mut |change| {
                self.told += 1;
                match change {
                    Change::Everything => {
                        self.whole += 1;
                        self.known.clear();
                    }
                    Change::Put(document) => {
                        self.known.insert(document.address.clone(), document);
                    }
                    Change::Removed(address) => {
                        self.known.remove(&address);
                    }
                }
            })
            .await?;
        self.at = at;
        Ok(())
    }
}

pub async fn a_document_is_found_by_id_and_by_uid_in_its_scope_alone(catalog: &dyn Catalog) -> Result<()> {
    // Goal: ids and uids are interchangeable, and nobody finds another's. Odd text is text.
    let odd = "{\"name\":\"caf\u{e9} \u{1f389} ' \\\" \\u0000 %_\"}";
    for scope in ["org_a", "org_b"] {
        let draft = Draft {
            content: odd.replace("name", scope),
            ..draft(Kind::Application, scope, &format!("app_{scope}"), Some("shop"))
        };
        let added = catalog.insert(draft, now()).await?;
        ensure!(added.created_at == now() && added.updated_at == now());
    }
    for scope in ["org_a", "org_b"] {
        let id = format!("app_{scope}");
        let by_id = catalog
            .get(Kind::Application, scope, &id)
            .await?
            .context("by id")?;
        let by_uid = catalog.get(Kind::Application, scope, "shop").await?;
        ensure!(by_uid.as_ref() == Some(&by_id));
        ensure!(by_id.content == odd.replace("name", scope), "{by_id:?}");
        ensure!(by_id.address == address(Kind::Application, scope, &id));
        ensure!(catalog.get(Kind::EventType, scope, &id).await?.is_none());
    }
    ensure!(
        catalog
            .get(Kind::Application, "org_a", "app_org_b")
            .await?
            .is_none()
    );
    for nothing in ["", "%", "app_%", "SHOP", "shop ", "'", "\0", "shop\0"] {
        ensure!(
            catalog.get(Kind::Application, "org_a", nothing).await?.is_none(),
            "{nothing:?}"
        );
    }
    Ok(())
}

pub async fn no_two_share_an_id_or_a_uid(catalog: &dyn Catalog) -> Result<()> {
    // Goal: also not crosswise, for then a path could mean either.
    catalog
        .insert(draft(Kind::Application, "org_a", "app_1", Some("one")), now())
        .await?;
    let two = catalog
        .insert(draft(Kind::Application, "org_a", "app_2", None), now())
        .await?;
    let refused = [
        ("app_1", None, CatalogError::IdTaken),
        ("one", None, CatalogError::IdTaken),
        ("app_3", Some("one"), CatalogError::UidTaken),
        ("app_3", Some("app_1"), CatalogError::UidTaken),
    ];
    for (id, uid, expected) in refused {
        let error = catalog
            .insert(draft(Kind::Application, "org_a", id, uid), now())
            .await;
        ensure!(error == Err(expected.clone()), "{id} {uid:?}: {error:?}");
    }
    for uid in ["one", "app_1"] {
        let error = catalog
            .update(&two, Some(uid.to_owned()), two.content.clone(), now())
            .await;
        ensure!(error == Err(CatalogError::UidTaken), "{error:?}");
    }
    // Its own id as its uid is nobody else's.
    let two = catalog
        .update(&two, Some("app_2".to_owned()), two.content.clone(), now())
        .await?;
    catalog.update(&two, None, two.content.clone(), now()).await?;
    // Of another kind, or elsewhere, they are free.
    catalog
        .insert(draft(Kind::EventType, "org_a", "app_1", None), now())
        .await?;
    catalog
        .insert(draft(Kind::Application, "org_b", "app_4", Some("one")), now())
        .await?;
    ensure!(
        catalog.get(Kind::Application, "org_a", "app_3").await?.is_none(),
        "a refusal left something"
    );
    Ok(())
}

pub async fn an_update_needs_what_was_read(catalog: &dyn Catalog) -> Result<()> {
    let read = application(catalog, "app_1").await?;
    let later = UnixMillis(now().0 + 5);
    let updated = catalog
        .update(&read, Some("uid".to_owned()), "{\"a\":1}".to_owned(), later)
        .await?;
    ensure!(updated.created_at == now() && updated.updated_at == later && updated.revision > read.revision);
    ensure!(catalog.get(Kind::Application, "org_a", "uid").await?.as_ref() == Some(&updated));
    let error = catalog.update(&read, None, "{}".to_owned(), later).await;
    ensure!(error == Err(CatalogError::Changed), "{error:?}");
    catalog.remove(&read.address, later).await?;
    let error = catalog.update(&updated, None, "{}".to_owned(), later).await;
    ensure!(error == Err(CatalogError::NotFound), "{error:?}");
    let error = catalog.remove(&read.address, later).await;
    ensure!(error == Err(CatalogError::NotFound), "{error:?}");
    Ok(())
}

pub async fn many_who_update_at_once_lose_no_update(catalog: &dyn Catalog) -> Result<()> {
    // Goal: 8 counters of one document, each counts to 10 by reading and updating, again whenever somebody was faster.
    let start = application(catalog, "app_1").await?;
    catalog.update(&start, None, "0".to_owned(), now()).await?;
    let counters = (0..8).map(|_| async {
        for _ in 0..10 {
            loop {
                let read = catalog
                    .get(Kind::Application, "org_a", "app_1")
                    .await?
                    .context("there")?;
                let next = read.content.parse::<u32>()? + 1;
                match catalog.update(&read, None, next.to_string(), now()).await {
                    Ok(_) => break,
                    Err(CatalogError::Changed) => continue,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        anyhow::Ok(())
    });
    join_all(counters).await.into_iter().collect::<Result<()>>()?;
    let end = catalog
        .get(Kind::Application, "org_a", "app_1")
        .await?
        .context("there")?;
    ensure!(end.content == "80", "{}", end.content);
    ensure!(
        end.revision == Revision(start.revision.0 + 81),
        "{:?}",
        end.revision
    );
    Ok(())
}

pub async fn many_who_insert_one_id_at_once_make_one(catalog: &dyn Catalog) -> Result<()> {
    let inserts = (0..8).map(|n| {
        catalog.insert(
            draft(Kind::Application, "org_a", &format!("app_{n}"), Some("shop")),
            now(),
        )
    });
    let (made, refused): (Vec<_>, Vec<_>) = join_all(inserts).await.into_iter().partition(Result::is_ok);
    ensure!(made.len() == 1, "{made:?}");
    ensure!(
        refused.iter().all(|error| *error == Err(CatalogError::UidTaken)),
        "{refused:?}"
    );
    Ok(())
}

pub async fn an_endpoint_needs_its_application_and_goes_with_it(catalog: &dyn Catalog) -> Result<()> {
    let error = catalog
        .insert(draft(Kind::Endpoint, "app_1", "ep_1", None), now())
        .await;
    ensure!(error == Err(CatalogError::NoScope), "{error:?}");
    let (one, _) = (
        application(catalog, "app_1").await?,
        application(catalog, "app_2").await?,
    );
    for id in ["ep_1", "ep_2"] {
        endpoint(catalog, "app_1", id).await?;
    }
    endpoint(catalog, "app_2", "ep_3").await?;
    // Neither belongs to the application, whatever its scope is called.
    catalog
        .insert(draft(Kind::EventType, "app_1", "a.b", None), now())
        .await?;
    let mut follower = Follower::default();
    follower.follow(catalog).await?;
    catalog.remove(&one.address, now()).await?;
    ensure!(catalog.get(Kind::Endpoint, "app_1", "ep_1").await?.is_none());
    ensure!(catalog.get(Kind::EventType, "app_1", "a.b").await?.is_some());
    follower.follow(catalog).await?;
    ensure!(
        follower.told == 3,
        "the application and two endpoints, not {}",
        follower.told
    );
    let left: Vec<&str> = follower.known.keys().map(|address| address.id.as_str()).collect();
    ensure!(left == ["app_2", "ep_3", "a.b"], "{left:?}");
    let error = catalog
        .insert(draft(Kind::Endpoint, "app_1", "ep_9", None), now())
        .await;
    ensure!(error == Err(CatalogError::NoScope), "{error:?}");
    Ok(())
}

pub async fn lists_are_cut_into_pages_in_both_directions(catalog: &dyn Catalog) -> Result<()> {
    // Goal: every page size gives the same list, and what is added or removed meanwhile doubles or hides nothing else.
    let ids: Vec<String> = (0..10).map(|n| format!("app_{n}")).collect();
    for id in ids.iter().rev() {
        application(catalog, id).await?;
    }
    catalog
        .insert(draft(Kind::Application, "org_b", "app_4x", None), now())
        .await?;
    for (direction, expected) in [
        (Direction::Ascending, ids.clone()),
        (Direction::Descending, ids.iter().rev().cloned().collect()),
    ] {
        for limit in [1, 3, 10, 11] {
            let (mut found, mut behind) = (Vec::new(), None);
            loop {
                let page = Page {
                    behind,
                    direction,
                    limit,
                };
                let documents = catalog.list(Kind::Application, "org_a", &page).await?;
                ensure!(documents.len() <= limit);
                let Some(last) = documents.last() else { break };
                behind = Some(last.address.id.clone());
                found.extend(documents.into_iter().map(|document| document.address.id));
            }
            ensure!(found == expected, "{direction:?} {limit}: {found:?}");
        }
    }
    let page = Page {
        behind: Some("app_4 never was".to_owned()),
        direction: Direction::Ascending,
        limit: 1,
    };
    let found = catalog.list(Kind::Application, "org_a", &page).await?;
    ensure!(found[0].address.id == "app_5", "{found:?}");
    for (direction, expected) in [(Direction::Ascending, "app_5"), (Direction::Descending, "app_4")] {
        let page = Page {
            behind: Some("app_4\0".to_owned()),
            direction,
            limit: 1,
        };
        let found = catalog.list(Kind::Application, "org_a", &page).await?;
        ensure!(found[0].address.id == expected, "{direction:?}: {found:?}");
    }
    Ok(())
}

pub async fn lists_are_in_the_order_of_bytes(catalog: &dyn Catalog) -> Result<()> {
    // Goal: the same everywhere, whatever the language that a database was made for.
    let ids = ["B", "a", "a-c", "a.b", "a_b", "ab", "b", "\u{e4}"];
    for id in ids.iter().rev() {
        application(catalog, id).await?;
    }
    let mut page = Page {
        behind: None,
        direction: Direction::Ascending,
        limit: 100,
    };
    let found = catalog.list(Kind::Application, "org_a", &page).await?;
    let found: Vec<&str> = found
        .iter()
        .map(|document| document.address.id.as_str())
        .collect();
    ensure!(found == ids, "{found:?}");
    page.behind = Some("a_".to_owned());
    let found = catalog.list(Kind::Application, "org_a", &page).await?;
    ensure!(found[0].address.id == "a_b" && found.len() == 4, "{found:?}");
    Ok(())
}

pub async fn a_follower_hears_of_each_change_once(catalog: &dyn Catalog) -> Result<()> {
    let mut follower = Follower::default();
    follower.follow(catalog).await?;
    ensure!((follower.whole, follower.known.len(), follower.at) == (1, 0, Revision::NONE));
    let one = application(catalog, "app_1").await?;
    let one = catalog.update(&one, None, "2".to_owned(), now()).await?;
    catalog.update(&one, None, "3".to_owned(), now()).await?;
    let two = application(catalog, "app_2").await?;
    follower.follow(catalog).await?;
    ensure!(follower.at == Revision(4) && follower.known[&one.address].content == "3");
    let whole = follower.whole;
    follower.follow(catalog).await?;
    ensure!(follower.told == 0, "nothing new was told: {}", follower.told);
    catalog.remove(&two.address, now()).await?;
    application(catalog, "app_3").await?;
    follower.follow(catalog).await?;
    ensure!(follower.told == 2 && follower.whole == whole, "{}", follower.told);
    ensure!(!follower.known.contains_key(&two.address));
    // Removed and made again: it is there.
    application(catalog, "app_2").await?;
    follower.follow(catalog).await?;
    ensure!(follower.told == 1 && follower.known.contains_key(&two.address));
    let mut fresh = Follower::default();
    fresh.follow(catalog).await?;
    ensure!(fresh.known == follower.known && fresh.at == follower.at);
    Ok(())
}

pub async fn who_was_away_too_long_is_told_everything(catalog: &dyn Catalog) -> Result<()> {
    // Goal: a removal that is not told any more leaves nothing behind, and neither does a store that was put back from a copy.
    let (one, two) = (
        application(catalog, "app_1").await?,
        application(catalog, "app_2").await?,
    );
    let (mut follower, mut away) = (Follower::default(), Follower::default());
    follower.follow(catalog).await?;
    away.follow(catalog).await?;
    catalog.remove(&one.address, now()).await?;
    follower.follow(catalog).await?;
    let much_later = UnixMillis(now().0 + REMOVALS_KEPT_MS + 1);
    catalog.remove(&two.address, much_later).await?;
    follower.follow(catalog).await?;
    ensure!(
        follower.known.is_empty() && follower.whole == 1,
        "told everything without need"
    );
    away.follow(catalog).await?;
    ensure!(away.known.is_empty() && away.whole == 2, "{:?}", away.known);
    application(catalog, "app_3").await?;
    let mut ahead = Follower {
        at: Revision(1_000),
        known: away.known.clone(),
        ..Follower::default()
    };
    ahead.follow(catalog).await?;
    ensure!(
        ahead.whole == 1 && ahead.known.len() == 1 && ahead.at == Revision(5),
        "{:?}",
        ahead.at
    );
    Ok(())
}

pub async fn followers_are_woken(catalog: &dyn Catalog) -> Result<()> {
    let mut newest = catalog.newest();
    let before = *newest.borrow_and_update();
    let document = application(catalog, "app_1").await?;
    tokio::time::timeout(SEEN_WITHIN, newest.changed()).await??;
    ensure!(*newest.borrow() == document.revision && document.revision > before);
    Ok(())
}

pub async fn thousands_are_told_in_one_piece(catalog: &dyn Catalog) -> Result<()> {
    // Goal: more than goes through any buffer at once, while others go on changing; what is told is one moment.
    application(catalog, "app_1").await?;
    for n in 0..1_500 {
        endpoint(catalog, "app_1", &format!("ep_{n:04}")).await?;
    }
    let mut follower = Follower::default();
    let (followed, added) = tokio::join!(follower.follow(catalog), async {
        for n in 1_500..1_600 {
            endpoint(catalog, "app_1", &format!("ep_{n:04}")).await?;
        }
        anyhow::Ok(())
    });
    followed?;
    added?;
    let seen = follower.known.len() as u64;
    ensure!(
        seen >= 1_501 && follower.at == Revision(seen),
        "{seen} at {:?}",
        follower.at
    );
    follower.follow(catalog).await?;
    ensure!(follower.known.len() == 1_601 && follower.whole == 1);
    Ok(())
}
