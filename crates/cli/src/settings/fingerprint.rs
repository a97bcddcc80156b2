//! Noticing that a setting changed which only a restart can put in force.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};

use config::{Value, ValueKind};
use hooklane_dispatcher::UserApplications;

/// Sections that are followed while a process runs.
const FOLLOWED: [&str; 2] = ["application", "endpoint"];

/// One hash for each section: secrets are compared without being kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint(BTreeMap<String, u64>);

impl Fingerprint {
    /// The fingerprint of merged settings. `broker_users` stand in applications, but belong to the dispatcher.
    pub fn of(merged: &Value, broker_users: &HashMap<String, UserApplications>) -> Fingerprint {
        let mut sections = BTreeMap::new();
        if let ValueKind::Table(entries) = &merged.kind {
            for (key, value) in entries
                .iter()
                .filter(|(key, _)| !FOLLOWED.contains(&key.as_str()))
            {
                let mut hasher = DefaultHasher::new();
                hash(value, &mut hasher);
                sections.insert(key.clone(), hasher.finish());
            }
        }
        let mut users: Vec<_> = broker_users.iter().map(|user| format!("{user:?}")).collect();
        users.sort();
        let mut hasher = DefaultHasher::new();
        users.hash(&mut hasher);
        sections.insert("application.broker_users".to_owned(), hasher.finish());
        Fingerprint(sections)
    }

    /// The sections that differ.
    pub fn differences(&self, other: &Fingerprint) -> Vec<String> {
        let keys = self
            .0
            .keys()
            .chain(other.0.keys())
            .filter(|key| self.0.get(*key) != other.0.get(*key));
        let mut keys: Vec<_> = keys.cloned().collect();
        keys.sort();
        keys.dedup();
        keys
    }
}

/// Values only: where they stand in the file makes no difference.
fn hash(value: &Value, hasher: &mut DefaultHasher) {
    match &value.kind {
        ValueKind::Table(entries) => {
            let mut sorted: Vec<_> = entries.iter().collect();
            sorted.sort_by(|a, b| a.0.cmp(b.0));
            for (key, value) in sorted {
                key.hash(hasher);
                hash(value, hasher);
            }
        }
        ValueKind::Array(values) => {
            values.len().hash(hasher);
            values.iter().for_each(|value| hash(value, hasher));
        }
        kind => kind.to_string().hash(hasher),
    }
}
