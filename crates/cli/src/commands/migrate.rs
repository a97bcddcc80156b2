//! `hooklane migrate`

use clap::Args;
use hooklane_store::postgres::{Formats, formats, migrate};

use super::flags::{SettingsFlags, StoreFlags, start_log};
use super::{block_on, pod, print};
use crate::settings::{self, Role};

#[derive(Args)]
pub struct Migrate {
    #[command(flatten)]
    settings: SettingsFlags,
    #[command(flatten)]
    store: StoreFlags,
    /// Says what would be done, and does nothing
    #[arg(long)]
    dry_run: bool,
}

impl Migrate {
    /// Prints what was done, or would be.
    pub fn run(self) -> anyhow::Result<()> {
        let sources = self.settings.sources(vec![self.store.flag()]);
        let settings = settings::load(&sources, Role::Store)?.settings;
        start_log(&settings.log, "warn")?;
        let postgres = pod::postgres(&settings)?;
        let Formats { found, known } = block_on(async { Ok(formats(postgres).await?) })?;
        let schema = postgres.schema();
        if found == known {
            return print::line(format_args!(
                "the schema {schema} has format {found}: nothing to do"
            ));
        }
        if self.dry_run && found < known {
            return print::line(format_args!(
                "the schema {schema} has format {found}: would bring it to {known}"
            ));
        }
        block_on(async { Ok(migrate(postgres).await?) })?;
        print::line(format_args!(
            "the schema {schema} had format {found}, and has {known} now"
        ))
    }
}
