//! The three sources of settings and how they are laid over each other; defaults stand where a key is read.

use std::path::{Path, PathBuf};

use config::{Config, ConfigError, Map, Source, Value, ValueKind};

use super::document;
use super::place::VARIABLE_PREFIX;
use super::problem::Problem;

/// The settings file that is read when none is named, if it exists.
pub const FILE_DEFAULT: &str = "hooklane.toml";
/// Names the settings file; `--config` goes before it.
pub const FILE_VARIABLE: &str = "HOOKLANE_CONFIG";
/// Longest settings file. 10,000 endpoints take about 3 MB.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Settings outside of a section, as variables: without them, what a cluster sets for a service that is called
/// `hooklane` (`HOOKLANE_PORT`, `HOOKLANE_SERVICE_HOST`) would be taken for settings.
const TOP_VARIABLES: [&str; 2] = ["HOOKLANE_DEFAULT_APPLICATION", "HOOKLANE_OPERATIONAL_APPLICATION"];

/// A flag that sets a setting.
#[derive(Clone, Debug)]
pub struct Flag {
    /// As the user writes it: `--broker`.
    pub name: &'static str,
    /// The setting: `broker.url`.
    pub key: &'static str,
    /// What was given.
    pub value: String,
}

/// Where settings come from. The environment comes in as data, so that tests need none.
#[derive(Clone, Default)]
pub struct Sources {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// The environment.
    pub variables: Vec<(String, String)>,
    /// Flags that set settings.
    pub flags: Vec<Flag>,
}

impl Sources {
    /// `--config`, the process's environment and flags. Variables that are not UTF-8 are no settings.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<Flag>) -> Sources {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Sources {
            file,
            variables,
            flags,
        }
    }

    /// The value of a variable.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }

    /// The file to read: the named one, or the default one if it exists.
    pub fn path(&self) -> Option<PathBuf> {
        let named = self
            .file
            .clone()
            .or_else(|| self.variable(FILE_VARIABLE).map(PathBuf::from));
        named.or_else(|| Some(PathBuf::from(FILE_DEFAULT)).filter(|path| path.exists()))
    }

    /// Reads the file's text; empty when there is no file.
    ///
    /// # Errors
    /// A [`Problem`] when it cannot be read.
    pub fn read_file(&self) -> Result<String, Problem> {
        match self.path() {
            Some(path) => read(&path),
            None => Ok(String::new()),
        }
    }

    /// Lays file, environment and flags over each other.
    ///
    /// # Errors
    /// A [`Problem`] when the file's text is no TOML.
    pub fn merge(&self, file_text: &str) -> Result<Value, Problem> {
        let name = self
            .path()
            .map_or_else(|| FILE_DEFAULT.to_owned(), |path| path.display().to_string());
        let file = document::parse(&name, file_text)?;
        let layers = [Layer(file), Layer(self.environment()), Layer(self.flag_layer())];
        let builder = layers.iter().fold(Config::builder(), |builder, layer| {
            builder.add_source(layer.clone())
        });
        let merged = builder.build().map_err(|error| Problem {
            place: name,
            key: String::new(),
            wrong: format!("the settings could not be merged: {error}"),
            remedy: "give each setting once in each source".to_owned(),
        })?;
        Ok(with_section_origins(merged.cache, &layers))
    }

    /// `HOOKLANE_SECTION__KEY`; other variables are somebody else's.
    fn environment(&self) -> Map<String, Value> {
        let mut map = Map::new();
        for (name, value) in &self.variables {
            let Some(key) = name.strip_prefix(VARIABLE_PREFIX) else {
                continue;
            };
            if key.contains("__") || TOP_VARIABLES.contains(&name.as_str()) {
                insert(
                    &mut map,
                    &key.to_ascii_lowercase().replace("__", "."),
                    name,
                    value,
                );
            }
        }
        map
    }

    fn flag_layer(&self) -> Map<String, Value> {
        let mut map = Map::new();
        for flag in &self.flags {
            insert(&mut map, flag.key, flag.name, &flag.value);
        }
        map
    }
}

fn read(path: &Path) -> Result<String, Problem> {
    let problem = |wrong: String, remedy: &str| Problem {
        place: path.display().to_string(),
        key: String::new(),
        wrong,
        remedy: remedy.to_owned(),
    };
    let length = std::fs::metadata(path)
        .map(|found| found.len())
        .map_err(|error| {
            problem(
                format!("cannot be read: {error}"),
                "name an existing file with --config or HOOKLANE_CONFIG, or write one with `hooklane init`",
            )
        })?;
    if length > FILE_BYTES_MAX {
        return Err(problem(
            format!("has more than {FILE_BYTES_MAX} bytes"),
            "name the right file with --config",
        ));
    }
    std::fs::read_to_string(path).map_err(|error| {
        problem(
            format!("cannot be read: {error}"),
            "give hooklane the right to read it; it must be UTF-8 text",
        )
    })
}

/// Merging drops where a section itself stands: the first source that has it says so again.
fn with_section_origins(mut merged: Value, layers: &[Layer]) -> Value {
    if let ValueKind::Table(sections) = &mut merged.kind {
        for (key, section) in sections
            .iter_mut()
            .filter(|(_, section)| section.origin().is_none())
        {
            let origin = layers
                .iter()
                .find_map(|Layer(map)| map.get(key)?.origin().map(str::to_owned));
            *section = Value::new(origin.as_ref(), std::mem::take(&mut section.kind));
        }
    }
    merged
}

/// Puts a text at a dotted path.
fn insert(map: &mut Map<String, Value>, path: &str, origin: &str, text: &str) {
    let (head, rest) = match path.split_once('.') {
        Some((head, rest)) => (head, Some(rest)),
        None => (path, None),
    };
    let origin_text = origin.to_owned();
    match rest {
        None => {
            map.insert(head.to_owned(), Value::new(Some(&origin_text), text));
        }
        Some(rest) => {
            let child = map
                .entry(head.to_owned())
                .or_insert_with(|| Value::new(Some(&origin_text), ValueKind::Table(Map::new())));
            if !matches!(child.kind, ValueKind::Table(_)) {
                child.kind = ValueKind::Table(Map::new());
            }
            if let ValueKind::Table(inner) = &mut child.kind {
                insert(inner, rest, origin, text);
            }
        }
    }
}

/// One source, already read: what the `config` crate merges.
#[derive(Clone, Debug)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}
