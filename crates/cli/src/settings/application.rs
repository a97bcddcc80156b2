//! `[[application]]`, and which broker user speaks for which.

use std::collections::HashMap;

use hooklane_dispatcher::UserApplications;
use hooklane_types::{ApplicationId, ThrottleRate};

use super::table::Table;

/// Stands for every application in `id`: its broker users may speak for all.
const ALL: &str = "*";

/// What the tables say together.
#[derive(Clone, Debug, Default)]
pub struct Applications {
    /// The known ones, once each.
    pub ids: Vec<ApplicationId>,
    /// Their limits of attempts a second.
    pub throttle_rates: Vec<(ApplicationId, ThrottleRate)>,
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
            table.read::<ThrottleRate>("throttle_rate");
            table.finish();
            continue;
        };
        let throttle_rate = table.read("throttle_rate");
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
        if is_all && throttle_rate.is_some() {
            table.problem(
                "throttle_rate",
                "a limit belongs to one application, and this table stands for all",
                "write it into the tables of the applications, or of their endpoints",
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
        if let Some(id) = id.filter(|_| !is_twice) {
            applications
                .throttle_rates
                .extend(throttle_rate.map(|rate| (id.clone(), rate)));
            applications.ids.push(id);
        }
        table.finish();
    }
    applications
}
