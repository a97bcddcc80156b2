//! `[[application]]`, and which broker user speaks for which.

use std::collections::HashMap;

use hooklane_dispatcher::UserApplications;
use hooklane_types::ApplicationId;

use super::table::Table;

/// Stands for every application in `id`: its broker users may speak for all.
const ALL: &str = "*";

/// What the tables say together.
#[derive(Clone, Debug, Default)]
pub struct Applications {
    /// The known ones, once each.
    pub ids: Vec<ApplicationId>,
    /// Who may speak for whom; empty: everybody for all.
    pub broker_users: HashMap<String, UserApplications>,
}

/// Reads all tables.
pub fn read(tables: Vec<Table<'_>>) -> Applications {
    let mut applications = Applications::default();
    let mut has_all = false;
    for table in tables {
        let Some(field) = table.field("id") else {
            table.missing("id", "write the application's id, like `id = \"acme\"`");
            table.list::<String>("broker_users");
            table.finish();
            continue;
        };
        let users: Vec<String> = table.list("broker_users").unwrap_or_default();
        let is_all = matches!(&field.value.kind, config::ValueKind::String(text) if text == ALL);
        let id = if is_all {
            None
        } else {
            field.read::<ApplicationId>()
        };
        let is_twice = (is_all && std::mem::replace(&mut has_all, true))
            || id.as_ref().is_some_and(|id| applications.ids.contains(id));
        if is_twice {
            field.problem(
                "an application with this id stands above",
                "merge the two, or give one another id",
            );
        }
        for user in users {
            let known = applications
                .broker_users
                .entry(user)
                .or_insert_with(|| UserApplications::These(Vec::new()));
            match (&mut *known, &id) {
                (_, None) if is_all => *known = UserApplications::All,
                (UserApplications::These(list), Some(id)) => list.push(id.clone()),
                (UserApplications::All, _) | (UserApplications::These(_), None) => {}
            }
        }
        applications.ids.extend(id.filter(|_| !is_twice));
        table.finish();
    }
    applications
}
