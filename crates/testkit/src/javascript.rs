//! Node.js programs of others, with packages from npm. `tests/run` makes the environment.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::process::Spawn;
use crate::python::workspace_root;

/// Below the workspace's root.
const MODULES: &str = ".test-env/npm/node_modules";

/// A script, with the packages of tests/package.json to require.
///
/// # Errors
/// When there is no environment yet, saying how to make it.
pub fn script(path: impl AsRef<Path>) -> Result<Spawn> {
    Ok(node()?.arg(path.as_ref()))
}

/// A program given as text (CommonJS).
///
/// # Errors
/// As [`script`].
pub fn code(code: &str) -> Result<Spawn> {
    Ok(node()?.args(["-e", code]))
}

fn node() -> Result<Spawn> {
    let modules = workspace_root().join(MODULES);
    ensure!(
        modules.exists(),
        "{} is missing: tests/run makes it",
        modules.display()
    );
    Ok(Spawn::program("node").env("NODE_PATH", modules))
}
