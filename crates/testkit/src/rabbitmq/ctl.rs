use std::ffi::OsStr;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;

use super::CTL_MAX;
use super::site::Site;

/// `rabbitmqctl` for one node. Clones are cheap.
#[derive(Clone)]
pub struct Ctl(Target);

#[derive(Clone)]
enum Target {
    Own(Arc<Site>),
    /// A shell command, for a node that somebody else started.
    Command(Arc<str>),
}

impl Ctl {
    pub(crate) fn own(site: Arc<Site>) -> Ctl {
        Ctl(Target::Own(site))
    }

    /// Calls through a shell command, which gets the arguments appended.
    pub fn by_command(command: &str) -> Ctl {
        Ctl(Target::Command(command.into()))
    }

    /// Runs a command and returns what it printed.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub async fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<String> {
        let shown: Vec<_> = arguments
            .iter()
            .map(|argument| argument.as_ref().to_string_lossy())
            .collect();
        let shown = format!("rabbitmqctl {}", shown.join(" "));
        let mut command = Command::from(self.command(arguments));
        command.stdin(Stdio::null()).kill_on_drop(true);
        let Ok(output) = tokio::time::timeout(CTL_MAX, command.output()).await else {
            bail!("{shown}: no answer within {CTL_MAX:?}");
        };
        let output = output.with_context(|| shown.clone())?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "{shown}: {}\n{stdout}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(stdout)
    }

    /// Evaluates an Erlang expression in the node.
    ///
    /// # Errors
    /// As [`Ctl::run`].
    pub async fn eval(&self, expression: &str) -> Result<String> {
        Ok(self.run(&["eval", expression]).await?.trim().to_owned())
    }

    /// The same as a shell command, for other processes; what it is given as arguments goes to `rabbitmqctl`.
    pub fn shell_command(&self) -> String {
        if let Target::Command(command) = &self.0 {
            return command.to_string();
        }
        let command = self.command::<&str>(&[]);
        let mut words = vec!["env".to_owned()];
        let mut assignments = Vec::new();
        for (name, value) in command.get_envs() {
            let name = name.to_string_lossy();
            match value {
                Some(value) => assignments.push(quoted(&format!("{name}={}", value.to_string_lossy()))),
                None => words.push(format!("-u {}", quoted(&name))),
            }
        }
        words.append(&mut assignments);
        words.push(quoted(&command.get_program().to_string_lossy()));
        words.extend(
            command
                .get_args()
                .map(|argument| quoted(&argument.to_string_lossy())),
        );
        words.join(" ")
    }

    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> std::process::Command {
        let mut command = match &self.0 {
            Target::Own(site) => {
                let mut command = site.tool("rabbitmqctl");
                command.args(["-q", "-n", &site.name]);
                command
            }
            Target::Command(prefix) => {
                let mut command = std::process::Command::new("/bin/sh");
                command
                    .arg("-c")
                    .arg(format!("{prefix} \"$@\""))
                    .arg("rabbitmqctl");
                command
            }
        };
        command.args(arguments);
        command
    }
}

/// One word for a shell, whatever is in it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
