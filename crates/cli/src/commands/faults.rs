//! `hooklane faults`

use clap::Args;
use hooklane_control::{FaultEntry, FaultRow, present};
use hooklane_types::FaultReason;

use super::shelf::{self, Action, Cells, Shown, age};

/// Faults: messages that the pipeline itself could not handle.
#[derive(Args)]
pub struct Faults {
    #[command(subcommand)]
    action: Action,
}

impl Faults {
    /// Runs the action.
    pub fn run(self) -> anyhow::Result<()> {
        shelf::run::<FaultEntry>(self.action)
    }
}

impl Shown for FaultEntry {
    const COMMAND: &'static str = "faults";

    fn reasons() -> Vec<&'static str> {
        FaultReason::ALL.map(FaultReason::name).to_vec()
    }

    fn reason(name: &str) -> Option<FaultReason> {
        FaultReason::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

impl Cells for FaultRow {
    const HEADER: &'static [&'static str] = &[
        "ID",
        "REASON",
        "ORIGIN",
        "APPLICATION",
        "TYPE",
        "BYTES",
        "AT",
        "AGE",
        "DETAIL",
    ];

    fn cells(&self) -> Vec<String> {
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        vec![
            self.id.clone(),
            self.reason.to_owned(),
            self.origin.to_owned(),
            text(&self.application),
            text(&self.event_type),
            self.bytes.to_string(),
            text(&self.at.map(present::time)),
            text(&self.age_s.map(age)),
            self.detail.clone(),
        ]
    }
}
