//! Tables of every version before become those of this version, with what is in them, whoever begins and however many at once.

#[path = "history/made.rs"]
#[expect(dead_code, reason = "the suite needs more of it")]
mod made;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use hooklane_store::catalog::{Catalog, Kind};
use hooklane_store::history::{History, Record, Settled, Status};
use hooklane_store::postgres::catalog::PostgresCatalog;
use hooklane_store::postgres::history::PostgresHistory;
use hooklane_store::postgres::{Formats, PostgresSettings, formats, migrate};
use hooklane_testkit::postgres::{Database, shared};
use hooklane_types::DeadReason;
use made::{application, at, delivery, endpoint, event_id};

/// So many begin at a time.
const AT_ONCE: usize = 5;

/// The steps of this version, in their order.
fn steps() -> Result<Vec<String>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/postgres/migrations");
    let mut files = fs::read_dir(directory)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    files.sort();
    files.iter().map(|file| Ok(fs::read_to_string(file)?)).collect()
}

/// A database as the version left it that knew so many steps, with something in each of its tables that outlives a deployment.
async fn of_version(steps: &[String]) -> Result<Database> {
    let database = shared().await?.database().await?;
    let mut script = "CREATE SCHEMA hooklane; SET search_path = hooklane; \
                      CREATE TABLE migrations (number integer PRIMARY KEY, at timestamptz NOT NULL DEFAULT now());"
        .to_owned();
    for (number, step) in (1..).zip(steps) {
        script.push_str(step);
        script.push_str(&format!("INSERT INTO migrations (number) VALUES ({number});"));
    }
    let rows = [
        "UPDATE catalog SET revision = 1; INSERT INTO documents VALUES ('application', 'org', 'app_1', NULL, 1, 1, 1, '{}');",
        "INSERT INTO responses VALUES ('\\x01', 1, NULL, 200, '\\x7b7d');",
        "INSERT INTO followers VALUES ('control 1', 1, now());",
        "INSERT INTO claims VALUES ('\\x02', now(), true);",
        "INSERT INTO published VALUES ('\\x03', 1, NULL);",
    ];
    rows.iter().take(steps.len()).for_each(|row| script.push_str(row));
    database.psql(&script).await?;
    Ok(database)
}

/// Every column and index.
async fn shape(database: &Database) -> Result<String> {
    let sql = "SELECT string_agg(line, E'\\n' ORDER BY line) FROM (\
               SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default) AS line \
               FROM information_schema.columns WHERE table_schema = 'hooklane' \
               UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'hooklane') AS lines";
    database.psql(sql).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_empty_and_from_every_version_before_the_same_tables_follow_with_what_was_in_them() -> Result<()>
{
    // Goal: no step depends on what only a fresh database has. Method: each prefix of the steps, as files; then several processes' worth of
    // migrations at once; the result is compared with that from empty, column by column.
    let steps = steps()?;
    let empty = shared().await?.database().await?;
    migrate(&PostgresSettings::parse(empty.url())?).await?;
    let wanted = shape(&empty).await?;
    ensure!(
        wanted.contains("claims") && wanted.contains("published"),
        "{wanted}"
    );
    for known in 1..steps.len() {
        let database = of_version(&steps[..known]).await?;
        let settings = PostgresSettings::parse(database.url())?;
        let before = formats(&settings).await?;
        ensure!(before.found == i32::try_from(known)?, "{before:?}");
        try_join_all((0..AT_ONCE).map(|_| migrate(&settings))).await?;
        let Formats { found, known: newest } = formats(&settings).await?;
        ensure!(found == newest && newest == i32::try_from(steps.len())?);
        ensure!(shape(&database).await? == wanted, "from version {known}");
        let once = "SELECT count(*) = max(number) FROM hooklane.migrations";
        ensure!(database.psql(once).await? == "t");
        let catalog = PostgresCatalog::open(&settings).await?;
        let kept = catalog.get(Kind::Application, "org", "app_1").await?;
        kept.with_context(|| format!("from version {known} the application is gone"))?;
        let kept = [
            ("responses", 2),
            ("followers", 3),
            ("claims", 4),
            ("published", 5),
        ];
        for (table, since) in kept.iter().filter(|(_, since)| known >= *since) {
            let count = database
                .psql(&format!("SELECT count(*) FROM hooklane.{table}"))
                .await?;
            ensure!(
                count == "1",
                "{table} of version {since}, from version {known}: {count}"
            );
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_became_of_an_event_is_known_after_the_step_that_puts_its_first_run_beside_where_it_stands()
-> Result<()> {
    // Goal: two runs that the version before wrote are found, and go on by the rules that they went by.
    let database = of_version(&steps()?[..5]).await?;
    let settings = PostgresSettings::parse(database.url())?;
    let day = at(0).0.div_euclid(24 * 3600 * 1000);
    let tables = ["events", "attempts", "deliveries", "destinations"];
    let days = tables
        .map(|table| format!("CREATE TABLE {table}_20231114 PARTITION OF {table} FOR VALUES IN ({day});"));
    let rows = format!(
        "INSERT INTO days VALUES ({day}); \
         INSERT INTO events (day, application, id, at_ms, expunged) VALUES ({day}, 'app', 'msg_1', {0}, false); \
         INSERT INTO deliveries VALUES ({day}, 'app', 'msg_1', 'ep', 0, 0, {0}, 'atmpt_1', NULL, {0}, 'atmpt_1', NULL), \
         ({day}, 'app', 'msg_1', 'ep', 1, 0, {0}, 'atmpt_2', {0}, NULL, NULL, NULL); \
         INSERT INTO destinations VALUES ({day}, 'app', 'msg_1', 'ep', 1, {0}, 1, {0});",
        at(0).0
    );
    let script = format!("SET search_path = hooklane; {}{rows}", days.concat());
    database.psql(&script).await?;
    let history = PostgresHistory::open(&settings).await?;
    // What a recorder of the version before reads and writes is refused: its records wait.
    let of_before = database.psql("SELECT last_id FROM hooklane.deliveries").await;
    ensure!(of_before.is_err());
    let (app, id, ep) = (application("app"), event_id("msg_1"), endpoint("ep"));
    let late = |reason, run| {
        let delivery = delivery("msg_1", 0, run);
        Record::Settled(Settled {
            delivery,
            at: at(9),
            reason,
        })
    };
    for is_later in [false, true] {
        if is_later {
            // Delivered stays; what was pending ends.
            let records = [late(DeadReason::Expired, 0), late(DeadReason::Expired, 1)];
            history.record(records.into(), at(10)).await?;
        }
        let found = history.outcomes(&app, &id, &ep).await?;
        let statuses: Vec<_> = found
            .iter()
            .map(|found| (found.run, found.state.status()))
            .collect();
        let second = if is_later { Status::Dead } else { Status::Pending };
        ensure!(statuses == [(1, second), (0, Status::Delivered)], "{found:?}");
        let last = found
            .iter()
            .map(|found| found.state.last.as_ref().map(|(_, id)| id.as_str()));
        ensure!(last.eq([Some("atmpt_2"), Some("atmpt_1")]), "{found:?}");
    }
    Ok(())
}
