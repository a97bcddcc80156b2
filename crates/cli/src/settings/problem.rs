//! What is wrong with the settings, all of it in one report.

use std::fmt;

/// One thing that is wrong, where it stands, and how to mend it. Never holds the value of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `hooklane.toml:12`, `HOOKLANE_BROKER__URL` or `--broker`; empty when nothing was written anywhere.
    pub place: String,
    /// The key's path, like `endpoint[2].timeout`; empty for the file as a whole.
    pub key: String,
    /// What is wrong.
    pub wrong: String,
    /// What to do about it.
    pub remedy: String,
}

impl Problem {
    /// Where it is, and what is wrong, without the remedy.
    pub fn what(&self) -> String {
        let parts = [&self.place, &self.key, &self.wrong];
        parts
            .map(String::as_str)
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(": ")
    }

    /// The line, where the place is one of a file.
    fn line(&self) -> u32 {
        self.place
            .rsplit_once(':')
            .and_then(|(_, line)| line.parse().ok())
            .unwrap_or(u32::MAX)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n    {}", self.what(), self.remedy)
    }
}

/// Every problem of one load, in the order of the file's lines; what came from elsewhere stands last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report(Vec<Problem>);

impl Report {
    /// Sorts the problems for reading.
    pub fn new(mut problems: Vec<Problem>) -> Report {
        problems.sort_by(|a, b| (a.line(), &a.place, &a.key).cmp(&(b.line(), &b.place, &b.key)));
        Report(problems)
    }

    /// The problems.
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(f, "1 problem in the settings")?,
            count => write!(f, "{count} problems in the settings")?,
        }
        self.0.iter().try_for_each(|problem| write!(f, "\n{problem}"))
    }
}

impl std::error::Error for Report {}
