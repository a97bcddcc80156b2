//! Python programs of others (the verifiers that users have, an AMQP client). `tests/run` makes the environment.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::process::Spawn;

/// Below the workspace's root.
const PYTHON: &str = ".test-env/venv/bin/python";
const TOOLS: &str = ".test-env/venv/bin";

/// A script, in the environment with the packages of tests/requirements.txt.
///
/// # Errors
/// When there is no environment yet, saying how to make it.
pub fn script(path: impl AsRef<Path>) -> Result<Spawn> {
    Ok(python()?.arg(path.as_ref()))
}

/// A program given as text.
///
/// # Errors
/// As [`script`].
pub fn code(code: &str) -> Result<Spawn> {
    Ok(python()?.args(["-c", code]))
}

/// A command that a package of the environment brings.
///
/// # Errors
/// As [`script`], and when there is no such command.
pub fn tool(name: &str) -> Result<Spawn> {
    let path = workspace_root().join(TOOLS).join(name);
    ensure!(path.exists(), "{} is missing: tests/run makes it", path.display());
    Ok(Spawn::program(path))
}

fn python() -> Result<Spawn> {
    let python = workspace_root().join(PYTHON);
    ensure!(
        python.exists(),
        "{} is missing: tests/run makes it",
        python.display()
    );
    // Output line by line, so that waiting for a line works.
    Ok(Spawn::program(python).env("PYTHONUNBUFFERED", "1"))
}

/// The directory that holds `crates/` and `tests/`.
pub fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap_or(Path::new("/"))
        .to_owned()
}
