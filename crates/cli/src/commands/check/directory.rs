//! What `hooklane check` finds where no broker is set: the data directory of `hooklane serve`. Nothing in it is changed.

use std::fs;
use std::path::Path;

use hooklane_broker::embedded::{self, OpenError, Synchronous};
use hooklane_broker::rabbitmq::check::{Finding, Verdict};
use hooklane_sqlite::{FileError, Inspection, Stamps};
use hooklane_store::sqlite::{self, FoundClaims, catalog, history};
use rustix::fs::statvfs;

use crate::commands::data_directory;
use crate::settings::EmbeddedSection;

const MIB: u64 = 1024 * 1024;
/// With less, a burst of events, or the log of the queue, may fill the disk.
const FREE_BYTES_FEW: u64 = 256 * MIB;

/// Looks at the directory, its files and its disk.
pub fn findings(section: &EmbeddedSection) -> Vec<Finding> {
    let directory = &section.data_dir;
    if let Err(error) = data_directory::is_none_or_one(directory) {
        return vec![problem(error)];
    }
    let mut findings = files(directory);
    findings.extend(disk(section));
    findings
}

fn finding(verdict: Verdict, what: String, remedy: &str) -> Finding {
    Finding {
        verdict,
        what,
        remedy: remedy.to_owned(),
    }
}

fn problem(error: impl Into<anyhow::Error>) -> Finding {
    let error: anyhow::Error = error.into();
    finding(
        Verdict::Problem,
        format!("{error:#}"),
        "nothing in it was changed",
    )
}

fn files(directory: &Path) -> Vec<Finding> {
    let shown = directory.display();
    let ok = |what: String| finding(Verdict::Ok, what, "");
    // Held while all files are looked at.
    let queue = match embedded::inspect(directory) {
        Ok(queue) => queue,
        Err(OpenError::Held { pid, holder, .. }) => {
            let pid = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
            let what = format!(
                "data directory {shown}: in use by {pid} ({holder}), which looked at its files when it began"
            );
            return match sqlite::find(directory) {
                Ok(_) => vec![ok(what)],
                Err(error) => vec![ok(what), problem(error)],
            };
        }
        Err(error) => return vec![problem(error)],
    };
    if !directory.exists() {
        let what = format!("data directory {shown}: there is none yet, `hooklane serve` makes it");
        let writable = data_directory::is_writable(directory);
        return vec![writable.err().map_or_else(|| ok(what), problem)];
    }
    let mut findings = Vec::new();
    let looked = claims(directory, queue.stamps())
        .and_then(|claims| Ok((claims, catalog::inspect(directory)?, history::inspect(directory)?)));
    match looked {
        Ok((claims, store, history)) => findings.push(ok(format!(
            "data directory {shown}: in use by nobody; {}; {}; {}; {}",
            file(embedded::FILE, queue.queue()),
            file(sqlite::FILE, claims.file()),
            file(catalog::FILE, store.as_ref()),
            file(history::FILE, history.as_ref())
        ))),
        Err(error) => findings.push(problem(error)),
    }
    findings.extend(data_directory::is_writable(directory).err().map(problem));
    findings
}

/// The claims, which belong to the queue.
fn claims(directory: &Path, queue: Option<&Stamps>) -> Result<FoundClaims, FileError> {
    let found = FoundClaims::look(directory)?;
    found.belongs_to(queue)?;
    Ok(found)
}

fn file(name: &str, found: Option<&Inspection>) -> String {
    let Some(found) = found else {
        return format!("no {name} yet");
    };
    let mib = found.bytes() as f64 / MIB as f64;
    let older = found.becomes().map_or_else(String::new, |newer| {
        let older = found.version();
        format!(" (format {older}: it is brought up to format {newer} when it is opened)")
    });
    format!("{name} is whole, {mib:.1} MiB{older}")
}

/// The disk that it lies on, or will lie on.
fn disk(section: &EmbeddedSection) -> Option<Finding> {
    let absolute = std::path::absolute(&section.data_dir).ok()?;
    let there = absolute.ancestors().find(|path| fs::metadata(path).is_ok())?;
    let system = statvfs(there).ok()?;
    let free = system.f_bavail.saturating_mul(system.f_frsize);
    let confirms = match section.synchronous {
        Synchronous::Full => "a confirmed event survives a power cut (synchronous = \"full\")",
        Synchronous::Normal => "a power cut may cost the last confirmed events (synchronous = \"normal\")",
    };
    let what = format!("disk of the data directory: {} MiB free; {confirms}", free / MIB);
    Some(match free < FREE_BYTES_FEW {
        false => finding(Verdict::Ok, what, ""),
        true => finding(
            Verdict::Warning,
            what,
            "make room, or name a directory on another disk: on a full one publishers get 503 until there is room",
        ),
    })
}
