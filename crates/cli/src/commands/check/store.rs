//! What `hooklane check` finds in PostgreSQL. Nothing in it is changed.

use hooklane_broker::rabbitmq::check::{Finding, Verdict};
use hooklane_store::postgres::{Formats, PostgresSettings, formats};

/// Whether it answers, and which format its tables have.
pub async fn look(settings: &PostgresSettings) -> Finding {
    let schema = settings.schema();
    let (verdict, what, remedy) = match formats(settings).await {
        Err(error) => (
            Verdict::Problem,
            format!("store: {error}"),
            "see that PostgreSQL runs, and that `url` in [store] names it, a user and its password",
        ),
        Ok(Formats { found, known }) if found > known => (
            Verdict::Problem,
            format!(
                "store: the schema {schema} has format {found}; this version knows formats up to {known}"
            ),
            "use the newer version",
        ),
        Ok(Formats { found, known }) if found < known => (
            Verdict::Warning,
            format!("store: the schema {schema} has format {found}, and this version {known}"),
            "run `hooklane migrate`, or let the first process that starts do it",
        ),
        Ok(Formats { found, .. }) => (
            Verdict::Ok,
            format!("store: PostgreSQL answers, and the schema {schema} has format {found}"),
            "",
        ),
    };
    Finding {
        verdict,
        what,
        remedy: remedy.to_owned(),
    }
}
