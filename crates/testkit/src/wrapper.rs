use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

/// What `with-…` does beside starting its server: runs the command that this process was given, with more variables, and ends as it did.
///
/// # Errors
/// When there is no command, or it cannot be run.
pub async fn run_given_command(variables: &[(&str, String)]) -> Result<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments
        .next()
        .context("say which command to run: with-… COMMAND [ARGUMENT…]")?;
    let mut command = Command::new(&program);
    command
        .args(arguments)
        .envs(variables.iter().map(|(name, value)| (name, value)));
    let status = tokio::task::spawn_blocking(move || command.status()).await?;
    let status = status.with_context(|| format!("cannot run {}", program.to_string_lossy()))?;
    // A command that a signal ended has no code.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
