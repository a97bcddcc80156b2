//! Ctrl-C and SIGTERM in a command that must end in order.

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::print;

/// What is said at the first signal and at the second.
pub struct Words {
    pub first: &'static str,
    pub second: &'static str,
}

/// The first signal cancels `stop`; the second ends this with an error, and the command with it.
pub async fn follow<T>(stop: &CancellationToken, words: Words) -> anyhow::Result<T> {
    let mut terminate = signal(SignalKind::terminate()).context("signals can't be received")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signals can't be received")?;
    for is_first in [true, false] {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if is_first {
            print::note(words.first);
            stop.cancel();
        }
    }
    bail!(words.second)
}
