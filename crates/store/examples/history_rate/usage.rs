//! CPU time, by `/proc`.

use std::fs;

use anyhow::{Context, Result};
use hooklane_testkit::postgres::Database;

/// Linux counts in hundredths of a second, whatever the machine.
const TICK_US: u64 = 10_000;
/// Fields of `/proc/<pid>/stat`, counted from the state.
const PARENT: usize = 1;
const OWN: [usize; 2] = [11, 12];
/// What children had used that have ended.
const CHILDRENS: [usize; 2] = [13, 14];

/// Whose time is counted beside this process's: none on SQLite.
pub struct Watched(Option<u64>);

impl Watched {
    pub fn this_process() -> Watched {
        Watched(None)
    }

    /// And all processes of the server.
    pub async fn server_of(database: &Database) -> Result<Watched> {
        let sql = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'";
        let one_of_them: u64 = database.psql(sql).await?.trim().parse()?;
        let parent = fields(one_of_them)?.get(PARENT).copied();
        Ok(Watched(Some(parent.context("it has no parent")?)))
    }

    /// Microseconds of this process, and of the server.
    pub fn cpu_us(&self) -> Result<(u64, u64)> {
        let own = sum(&fields(std::process::id().into())?, &OWN) * TICK_US;
        let Some(parent) = self.0 else {
            return Ok((own, 0));
        };
        let server = fields(parent)?;
        let mut ticks = sum(&server, &OWN) + sum(&server, &CHILDRENS);
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // One that has ended meanwhile is its parent's.
            if let Ok(found) = fields(pid)
                && found.get(PARENT) == Some(&parent)
            {
                ticks += sum(&found, &OWN);
            }
        }
        Ok((own, ticks * TICK_US))
    }
}

fn sum(fields: &[u64], which: &[usize]) -> u64 {
    which.iter().filter_map(|at| fields.get(*at)).sum()
}

/// From the state on, which is none: 0 stands for what is no number.
fn fields(pid: u64) -> Result<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = text.rsplit_once(')').context("not a line of /proc")?;
    Ok(rest
        .split_whitespace()
        .map(|field| field.parse().unwrap_or_default())
        .collect())
}
