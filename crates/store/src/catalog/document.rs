//! What is kept of one thing.

use hooklane_types::UnixMillis;

/// What a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A tenant. Its scope is the organisation.
    Application,
    /// Where events go. Its scope is the application's id, and the application has to exist.
    Endpoint,
    /// What an organisation publishes. Its scope is the organisation, its id is its name.
    EventType,
    /// A static key of the API. Its scope is the organisation.
    Key,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 4] = [Kind::Application, Kind::Endpoint, Kind::EventType, Kind::Key];

    /// Its name in the tables. Never changed.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Application => "application",
            Kind::Endpoint => "endpoint",
            Kind::EventType => "event_type",
            Kind::Key => "key",
        }
    }

    /// The kind with this name.
    pub fn of_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// What a document's scope is the id of, where that has to exist.
    pub fn belongs_to(self) -> Option<Kind> {
        match self {
            Kind::Endpoint => Some(Kind::Application),
            Kind::Application | Kind::EventType | Kind::Key => None,
        }
    }
}

/// A moment in the catalog's history. Each change has a later one than those that were committed before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// Before the first change.
    pub const NONE: Revision = Revision(0);
}

/// Which document.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// What it is.
    pub kind: Kind,
    /// What it belongs to.
    pub scope: String,
    /// Its id.
    pub id: String,
}

/// A document to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Where it will be.
    pub address: Address,
    /// The name that its owner gave it.
    pub uid: Option<String>,
    /// JSON.
    pub content: String,
}

/// A document as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Where it is.
    pub address: Address,
    /// The name that its owner gave it; no other of its kind and scope has it, as uid or as id.
    pub uid: Option<String>,
    /// When it was added.
    pub created_at: UnixMillis,
    /// When it was last changed.
    pub updated_at: UnixMillis,
    /// The last change.
    pub revision: Revision,
    /// JSON.
    pub content: String,
}

/// What a follower is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// What follows is all there is: whatever else was known is gone.
    Everything,
    /// Added or changed.
    Put(Document),
    /// Removed.
    Removed(Address),
}
