//! `hooklane dead`

use clap::Args;
use hooklane_control::{DeadEntry, DeadRow, present};
use hooklane_types::DeadReason;

use super::shelf::{self, Action, Cells, Shown, age};

/// Dead letters: deliveries that were given up.
#[derive(Args)]
pub struct Dead {
    #[command(subcommand)]
    action: Action,
}

impl Dead {
    /// Runs the action.
    pub fn run(self) -> anyhow::Result<()> {
        shelf::run::<DeadEntry>(self.action)
    }
}

impl Shown for DeadEntry {
    const COMMAND: &'static str = "dead";

    fn reasons() -> Vec<&'static str> {
        DeadReason::ALL.map(DeadReason::name).to_vec()
    }

    fn reason(name: &str) -> Option<DeadReason> {
        DeadReason::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

impl Cells for DeadRow {
    const HEADER: &'static [&'static str] = &[
        "ID",
        "APPLICATION",
        "TYPE",
        "ENDPOINT",
        "REASON",
        "ATTEMPTS",
        "LAST",
        "DIED AT",
        "AGE",
    ];

    fn cells(&self) -> Vec<String> {
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        vec![
            self.id.clone(),
            text(&self.application),
            text(&self.event_type),
            text(&self.endpoint),
            self.reason.to_owned(),
            self.attempts.to_string(),
            text(&self.last_outcome),
            text(&self.died_at.map(present::time)),
            text(&self.age_s.map(age)),
        ]
    }
}
