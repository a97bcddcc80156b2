//! `hooklane token`

use clap::Args;
use hooklane_types::UnixMillis;

use super::flags::{SettingsFlags, flag};
use super::{management, now, print, usage};
use crate::settings::{self, Role};

const DAY_MS: i64 = 24 * 3600 * 1000;

#[derive(Args)]
pub struct MakeToken {
    #[command(flatten)]
    settings: SettingsFlags,
    /// For this organisation [default: api.organisation of the settings]
    #[arg(long, value_name = "ID")]
    organisation: Option<String>,
    /// For this application of it alone, by its id (app_…): it may see and change its endpoints, and may not publish
    #[arg(long, value_name = "ID")]
    application: Option<String>,
    /// How long it is valid
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// The data directory of `hooklane serve` [default: hooklane-data]
    #[arg(long, value_name = "DIRECTORY")]
    data: Option<String>,
}

impl MakeToken {
    /// Prints it. Whoever has it can do what it says until it ends: nothing keeps it.
    pub fn run(self) -> anyhow::Result<()> {
        let flags = vec![flag("--data", "embedded.data_dir", self.data.as_ref())];
        let loaded = settings::load(&self.settings.sources(flags), Role::Token)?.settings;
        let directory = &loaded.embedded.data_dir;
        if loaded.api.jwt_secret.is_none() && !directory.is_dir() {
            return Err(usage(format!(
                "there is no {}: start `hooklane serve` once, or give `jwt_secret` in [api]",
                directory.display()
            )));
        }
        let tokens = management::tokens(directory, &loaded.api)?;
        let organisation = self.organisation.as_deref().unwrap_or(&loaded.api.organisation);
        let now = now();
        let ends_at = UnixMillis(now.0 + i64::from(self.days) * DAY_MS);
        let token = tokens.make(organisation, self.application.as_deref(), now, ends_at);
        print::line(token.map_err(|error| usage(error.to_string()))?)
    }
}
