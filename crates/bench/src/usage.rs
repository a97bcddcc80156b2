//! What processes use, by `/proc`.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Context;

/// What is watched: a name, and the process behind it.
#[derive(Clone, Debug)]
pub struct Watched(pub Vec<(&'static str, u32)>);

/// CPU time by name, in microseconds.
pub type Cpu = BTreeMap<&'static str, f64>;

impl Watched {
    /// CPU time that each has used so far with its children, user and system.
    ///
    /// # Errors
    /// When one of them has ended.
    pub fn cpu(&self) -> anyhow::Result<Cpu> {
        let mut sum = Cpu::new();
        for (name, pid) in &self.0 {
            *sum.entry(*name).or_default() += cpu_us(*pid).with_context(|| gone(name))?;
        }
        Ok(sum)
    }

    /// The most memory that each ever had resident, in MiB.
    ///
    /// # Errors
    /// When one of them has ended.
    pub fn peak_mib(&self) -> anyhow::Result<BTreeMap<&'static str, f64>> {
        self.0
            .iter()
            .map(|(name, pid)| Ok((*name, peak_mib(*pid).with_context(|| gone(name))?)))
            .collect()
    }
}

fn gone(name: &str) -> String {
    format!("the process {name:?} has ended, or /proc cannot be read")
}

/// Of a process, and of its children: a database server has one for each connection. One that ends is its parent's time from then on.
fn cpu_us(pid: u32) -> anyhow::Result<f64> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    // One may end in between.
    Ok(own_cpu_us(pid)? + children.map(|pid| own_cpu_us(pid).unwrap_or(0.0)).sum::<f64>())
}

fn own_cpu_us(pid: u32) -> anyhow::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name stands in parentheses and may hold anything; the state follows.
    let (_, rest) = text.rsplit_once(')').context("not a line of /proc")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |index: usize| -> anyhow::Result<f64> {
        Ok(fields.get(index).context("not a line of /proc")?.parse::<f64>()?)
    };
    let per_tick = 1e6 / rustix::param::clock_ticks_per_second() as f64;
    // utime, stime, and those of children that have ended are fields 14 to 17, and the state is field 3.
    Ok((ticks(11)? + ticks(12)? + ticks(13)? + ticks(14)?) * per_tick)
}

fn peak_mib(pid: u32) -> anyhow::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.context("no VmHWM")?.trim().trim_end_matches(" kB");
    Ok(kib.parse::<f64>()? / 1024.0)
}

/// The process of this machine that listens on a port, as far as it may be seen.
pub fn listener(port: u16) -> Option<u32> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .find_map(|table| inode_of(&fs::read_to_string(table).ok()?, port))?;
    let socket = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?;
    let mut pids = processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| {
        let open = fs::read_dir(format!("/proc/{pid}/fd"));
        open.into_iter()
            .flatten()
            .flatten()
            .any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target.to_string_lossy() == socket))
    })
}

/// From a table of sockets: `sl local_address rem_address st … inode`; state 0A listens.
fn inode_of(table: &str, port: u16) -> Option<String> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, found) = fields.get(1)?.rsplit_once(':')?;
        let listens = u16::from_str_radix(found, 16).ok()? == port && *fields.get(3)? == "0A";
        listens.then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time_and_memory_and_is_found_by_its_port() {
        let watched = Watched(vec![("test", std::process::id())]);
        assert!(watched.cpu().is_ok());
        assert!(watched.peak_mib().expect("it lives")["test"] > 0.5);
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = socket.local_addr().expect("it is bound").port();
        assert_eq!(listener(port), Some(std::process::id()));
        assert!(Watched(vec![("nobody", u32::MAX)]).cpu().is_err());
    }
}
