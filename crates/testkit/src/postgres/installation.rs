use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Debian has one directory per major version in it.
const VERSIONS: &str = "/usr/lib/postgresql";
/// Whom the server runs as when we are root: the first of these that exists.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// Which PostgreSQL is run, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Installation {
    bin: PathBuf,
    /// None: as ourselves.
    user: Option<User>,
}

#[derive(Clone, Copy, Debug)]
struct User {
    id: u32,
    group: u32,
}

impl Installation {
    pub(crate) fn find() -> Result<Installation> {
        let bin = match std::env::var_os("HOOKLANE_TEST_POSTGRES_BIN") {
            Some(bin) => PathBuf::from(bin),
            None => newest(Path::new(VERSIONS))?,
        };
        ensure!(
            bin.join("postgres").exists(),
            "{}/postgres is missing: install postgresql, or name another directory in HOOKLANE_TEST_POSTGRES_BIN",
            bin.display()
        );
        let user = match rustix::process::geteuid().is_root() {
            true => Some(other_user()?),
            false => None,
        };
        Ok(Installation { bin, user })
    }

    /// A program of the installation. Settings of the system's server, or of an outer run, do not reach it.
    pub(crate) fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command.env("LC_ALL", "C.UTF-8");
        command
    }

    /// A program that runs as the server's user.
    pub(crate) fn program_as_user(&self, name: &str) -> Command {
        let mut command = self.program(name);
        if let Some(user) = self.user {
            command.uid(user.id).gid(user.group);
        }
        command
    }

    /// Gives a file or directory to the server's user.
    pub(crate) fn give(&self, path: &Path) -> Result<()> {
        let Some(user) = self.user else { return Ok(()) };
        std::os::unix::fs::chown(path, Some(user.id), Some(user.group))
            .with_context(|| format!("cannot give {} to the server's user", path.display()))
    }
}

fn newest(versions: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(versions);
    let number = |entry: fs::DirEntry| entry.file_name().to_string_lossy().parse::<u32>().ok();
    let newest = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| number(entry.ok()?))
        .filter(|version| versions.join(format!("{version}/bin/postgres")).exists())
        .max();
    let newest = newest.with_context(|| {
        format!(
            "no PostgreSQL is in {}: install postgresql, or name a directory in HOOKLANE_TEST_POSTGRES_BIN",
            versions.display()
        )
    })?;
    Ok(versions.join(format!("{newest}/bin")))
}

fn other_user() -> Result<User> {
    let users = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    let find = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some(User {
            id: fields.next()?.parse().ok()?,
            group: fields.next()?.parse().ok()?,
        })
    };
    USERS.into_iter().find_map(find).with_context(|| {
        format!(
            "PostgreSQL does not run as root, and there is no user {}",
            USERS.join(" or ")
        )
    })
}
