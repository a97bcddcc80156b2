//! The reader: takes typed values out of the merged tree, remembers which keys it knows, and collects what is wrong instead
//! of stopping at it. What is asked for is the schema: a key that nobody asked for is unknown.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Map, Value, ValueKind};

use super::place::Rank;
use super::problem::Problem;
use super::source::Sources;
use super::value::{Raw, Readable, Size, Wrong, one_of};

/// Least likeness of an unknown key to a known one that is suggested (Jaro-Winkler, 0 to 1).
const LIKENESS_MIN: f64 = 0.75;

/// What all tables of one load share.
pub struct Load<'a> {
    problems: RefCell<Vec<Problem>>,
    known: RefCell<BTreeSet<String>>,
    sources: &'a Sources,
    /// Relative paths in the file start at the file's own directory.
    base: PathBuf,
}

impl<'a> Load<'a> {
    /// A load that found nothing yet.
    pub fn new(sources: &'a Sources) -> Load<'a> {
        let base = sources
            .path()
            .and_then(|path| path.parent().map(Path::to_owned))
            .unwrap_or_default();
        Load {
            problems: RefCell::default(),
            known: RefCell::default(),
            sources,
            base,
        }
    }

    /// Adds a problem.
    pub fn problem(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// A variable of the environment, for secrets that stand there.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.sources.variable(name)
    }

    /// What was found, and the keys that were asked for, without the places in lists: `endpoint.url`.
    pub fn finish(self) -> (Vec<Problem>, BTreeSet<String>) {
        (self.problems.into_inner(), self.known.into_inner())
    }
}

/// A table of settings that is being read. An absent one reads as empty.
pub struct Table<'a> {
    load: &'a Load<'a>,
    path: String,
    place: String,
    entries: Option<&'a Map<String, Value>>,
    asked: RefCell<BTreeSet<String>>,
}

/// A value with its path and place.
#[derive(Clone)]
pub struct Field<'a> {
    /// The value.
    pub value: &'a Value,
    /// Its key's path.
    pub path: String,
    /// Where it stands.
    pub place: String,
    load: &'a Load<'a>,
}

impl<'a> Field<'a> {
    /// Adds a problem with this value.
    pub fn problem(&self, wrong: impl Display, remedy: impl Display) {
        self.load.problem(Problem {
            place: self.place.clone(),
            key: self.path.clone(),
            wrong: wrong.to_string(),
            remedy: remedy.to_string(),
        });
    }

    /// Which source it came from.
    pub fn rank(&self) -> Rank {
        Rank::of(&self.place)
    }

    /// Reads it as `T`; a problem otherwise.
    pub fn read<T: Readable>(&self) -> Option<T> {
        let raw = Raw {
            value: self.value,
            is_text_only: self.rank() != Rank::File,
        };
        self.taken(T::read(raw))
    }

    /// What the name that stands here means.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn one_of<T: Clone>(&self, names: &[(&str, T)]) -> Result<T, Wrong> {
        let raw = Raw {
            value: self.value,
            is_text_only: false,
        };
        one_of(raw, names)
    }

    /// The value, or the problem.
    pub fn taken<T>(&self, result: Result<T, Wrong>) -> Option<T> {
        result
            .map_err(|wrong| self.problem(wrong.wrong, wrong.remedy))
            .ok()
    }

    /// A path; a relative one that stands in the file starts at the file's directory.
    pub fn file_path(&self) -> Option<PathBuf> {
        let text: String = self.read()?;
        if text.is_empty() {
            self.problem("the path is empty", "name a file, or leave the key out");
            return None;
        }
        match self.rank() {
            Rank::File => Some(self.load.base.join(text)),
            Rank::Variable | Rank::Flag => Some(PathBuf::from(text)),
        }
    }

    /// The table that stands here.
    pub fn table(&self) -> Option<Table<'a>> {
        match &self.value.kind {
            ValueKind::Table(entries) => Some(Table {
                load: self.load,
                path: self.path.clone(),
                place: self.place.clone(),
                entries: Some(entries),
                asked: RefCell::default(),
            }),
            _ => {
                let example = self.path.rsplit('.').next().unwrap_or(&self.path);
                self.problem(
                    "not a table",
                    format!("write it as a table: `[{example}]` or `{example} = {{ … }}`"),
                );
                None
            }
        }
    }

    /// The elements of the list that stands here.
    pub fn elements(&self) -> Option<Vec<Field<'a>>> {
        match &self.value.kind {
            ValueKind::Array(values) => {
                let element = |(at, value): (usize, &'a Value)| Field {
                    value,
                    path: format!("{}[{}]", self.path, at + 1),
                    place: value.origin().unwrap_or(&self.place).to_owned(),
                    load: self.load,
                };
                Some(values.iter().enumerate().map(element).collect())
            }
            _ => {
                let remedy = match self.rank() {
                    Rank::File => "write it in brackets: `[…]`",
                    Rank::Variable | Rank::Flag => {
                        "write it in the settings file: this has no form in the environment"
                    }
                };
                self.problem("not a list", remedy);
                None
            }
        }
    }
}

impl<'a> Table<'a> {
    /// The whole of the settings.
    pub fn root(load: &'a Load<'a>, merged: &'a Value) -> Table<'a> {
        let entries = match &merged.kind {
            ValueKind::Table(entries) => Some(entries),
            _ => None,
        };
        Table {
            load,
            path: String::new(),
            place: String::new(),
            entries,
            asked: RefCell::default(),
        }
    }

    /// What all tables of this load share.
    pub fn load(&self) -> &'a Load<'a> {
        self.load
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// The value of a key; the key is known from now on.
    pub fn field(&self, key: &str) -> Option<Field<'a>> {
        self.asked.borrow_mut().insert(key.to_owned());
        self.load
            .known
            .borrow_mut()
            .insert(without_places(&self.path_of(key)));
        self.entries?.get(key).map(|value| self.made_field(key, value))
    }

    fn made_field(&self, key: &str, value: &'a Value) -> Field<'a> {
        let place = value.origin().map(str::to_owned).or_else(|| first_origin(value));
        Field {
            value,
            path: self.path_of(key),
            place: place.unwrap_or_else(|| self.place.clone()),
            load: self.load,
        }
    }

    /// Every value, for tables whose keys are free (headers); sorted by key.
    pub fn free_fields(&self) -> Vec<(&'a str, Field<'a>)> {
        let entries = self.entries.into_iter().flatten();
        let mut fields: Vec<_> = entries
            .map(|(key, value)| (key.as_str(), self.made_field(key, value)))
            .collect();
        fields.sort_by(|a, b| a.0.cmp(b.0));
        fields
    }

    /// Adds a problem with a key that is not there.
    pub fn missing(&self, key: &str, remedy: impl Display) {
        self.problem(key, "is missing", remedy);
    }

    /// Adds a problem with a key of this table.
    pub fn problem(&self, key: &str, wrong: impl Display, remedy: impl Display) {
        let place = self
            .entries
            .and_then(|entries| entries.get(key))
            .and_then(|value| value.origin().map(str::to_owned).or_else(|| first_origin(value)))
            .unwrap_or_else(|| self.place.clone());
        self.load.problem(Problem {
            place,
            key: self.path_of(key),
            wrong: wrong.to_string(),
            remedy: remedy.to_string(),
        });
    }

    /// A value, where there is one and it is right.
    pub fn read<T: Readable>(&self, key: &str) -> Option<T> {
        self.field(key)?.read()
    }

    /// A value, or the default where there is none (or a wrong one, which is a problem).
    pub fn read_or<T: Readable>(&self, key: &str, default: T) -> T {
        self.read(key).unwrap_or(default)
    }

    /// A number within bounds.
    pub fn number<T>(&self, key: &str, default: T, bounds: RangeInclusive<T>) -> T
    where
        T: Readable + PartialOrd + Display,
    {
        self.within(key, default, bounds, T::to_string)
    }

    /// A duration within bounds.
    pub fn duration(&self, key: &str, default: Duration, bounds: RangeInclusive<Duration>) -> Duration {
        self.within(key, default, bounds, |found| {
            humantime::format_duration(*found).to_string()
        })
    }

    /// A number of bytes within bounds.
    pub fn size(&self, key: &str, default: u64, bounds: RangeInclusive<u64>) -> u64 {
        let bounds = Size(*bounds.start())..=Size(*bounds.end());
        self.within(key, Size(default), bounds, Size::to_string).0
    }

    fn within<T: Readable + PartialOrd>(
        &self,
        key: &str,
        default: T,
        bounds: RangeInclusive<T>,
        shown: impl Fn(&T) -> String,
    ) -> T {
        let Some(field) = self.field(key) else {
            return default;
        };
        match field.read::<T>() {
            Some(found) if bounds.contains(&found) => found,
            Some(found) => {
                let (least, most) = (shown(bounds.start()), shown(bounds.end()));
                field.problem(
                    format!("{} is out of bounds", shown(&found)),
                    format!(
                        "write a value from {least} to {most}; the default is {}",
                        shown(&default)
                    ),
                );
                default
            }
            None => default,
        }
    }

    /// A path to a file.
    pub fn file_path(&self, key: &str) -> Option<PathBuf> {
        self.field(key)?.file_path()
    }

    /// What the name there means, or the default.
    pub fn named_or<T: Clone>(&self, key: &str, names: &[(&str, T)], default: T) -> T {
        self.field(key)
            .and_then(|field| field.taken(field.one_of(names)))
            .unwrap_or(default)
    }

    /// A sub-table; an absent one reads as empty.
    pub fn section(&self, key: &str) -> Table<'a> {
        self.field(key)
            .and_then(|field| field.table())
            .unwrap_or_else(|| Table {
                load: self.load,
                path: self.path_of(key),
                place: self.place.clone(),
                entries: None,
                asked: RefCell::default(),
            })
    }

    /// The tables of a list of tables, `[[key]]`.
    pub fn tables(&self, key: &str) -> Vec<Table<'a>> {
        let elements = self.field(key).and_then(|field| field.elements());
        elements
            .into_iter()
            .flatten()
            .filter_map(|element| element.table())
            .collect()
    }

    /// The elements of a list, where there is one and all of them are right. Text from the environment is split at commas.
    pub fn list<T: Readable>(&self, key: &str) -> Option<Vec<T>> {
        let field = self.field(key)?;
        // All are read before one is missed, so that every wrong one is reported.
        let elements: Vec<Option<T>> = match &field.value.kind {
            ValueKind::String(text) if field.rank() != Rank::File => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                parts.map(|part| field.taken(T::read_text(part))).collect()
            }
            _ => field.elements()?.iter().map(Field::read).collect(),
        };
        elements.into_iter().collect()
    }

    /// Ends the reading: keys that nobody asked for are problems.
    pub fn finish(self) {
        let asked = self.asked.borrow();
        for (key, value) in self.entries.into_iter().flatten() {
            if asked.contains(key) {
                continue;
            }
            let field = self.made_field(key, value);
            let nearest = asked
                .iter()
                .map(|known| (strsim::jaro_winkler(key, known), known))
                .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
                .max_by(|a, b| a.0.total_cmp(&b.0));
            match nearest {
                Some((_, known)) => field.problem("unknown key", format!("did you mean `{known}`?")),
                None => {
                    let all: Vec<_> = asked.iter().map(String::as_str).collect();
                    field.problem("unknown key", format!("known here: {}", all.join(", ")));
                }
            }
        }
    }
}

/// Merged tables carry no origin of their own: the first of their values', in the order of lines, does.
fn first_origin(value: &Value) -> Option<String> {
    let ValueKind::Table(entries) = &value.kind else {
        return value.origin().map(str::to_owned);
    };
    entries
        .values()
        .filter_map(|value| value.origin().map(str::to_owned).or_else(|| first_origin(value)))
        .min_by_key(|origin| {
            origin
                .rsplit_once(':')
                .and_then(|(_, line)| line.parse::<u32>().ok())
                .unwrap_or(u32::MAX)
        })
}

/// `endpoint[2].retry` → `endpoint.retry`.
fn without_places(path: &str) -> String {
    let mut inside = false;
    path.chars()
        .filter(|c| {
            let keep = !inside && *c != '[';
            inside = (inside || *c == '[') && *c != ']';
            keep
        })
        .collect()
}
