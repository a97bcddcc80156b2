//! The settings file of the services that are measured: the defaults, but for what the bench has to set.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;

/// The signing secret of all endpoints.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// The application of all events.
pub const APPLICATION: &str = "bench";
/// More than the largest backlog takes.
const EVENTS_BYTES_MAX: &str = "8GiB";

/// What the file says.
pub struct Settings {
    /// Sections, in TOML.
    sections: String,
    endpoints: String,
}

impl Settings {
    /// For services on RabbitMQ.
    pub fn rabbitmq(url: &str, prefix: &str) -> Settings {
        let mut settings = Settings::shared();
        let _ = writeln!(
            settings.sections,
            "[broker]\nurl = {url:?}\nprefix = {prefix:?}\nevents_bytes_max = {EVENTS_BYTES_MAX:?}"
        );
        settings
    }

    /// With a history in PostgreSQL, and claims or none. The secrets are the bench's own.
    pub fn postgres(mut self, url: &str, claims: bool) -> Settings {
        let _ = writeln!(
            self.sections,
            "[store]\nurl = {url:?}\nclaims = {claims}\n[api]\nencryption_key = \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"\njwt_secret = \"a secret of the bench\""
        );
        self
    }

    /// With or without a history in the data directory.
    pub fn history(mut self, is_kept: bool) -> Settings {
        let _ = writeln!(self.sections, "[store]\nhistory = {is_kept}");
        self
    }

    /// For `hooklane serve`, with its queue in this directory.
    pub fn embedded(directory: &Path) -> Settings {
        let mut settings = Settings::shared();
        let _ = writeln!(
            settings.sections,
            "[broker]\nevents_bytes_max = {EVENTS_BYTES_MAX:?}\n[embedded]\ndata_dir = {:?}",
            directory.display().to_string()
        );
        settings
    }

    fn shared() -> Settings {
        Settings {
            sections: format!(
                "default_application = \"{APPLICATION}\"\n[egress]\nhttps_only = false\nallow = [\"127.0.0.0/8\"]\n"
            ),
            endpoints: String::new(),
        }
    }

    /// More settings of `[dispatcher]`, in TOML.
    pub fn dispatcher(mut self, lines: &str) -> Settings {
        let _ = writeln!(self.sections, "[dispatcher]\n{lines}");
        self
    }

    /// An endpoint at this path of the receiver, with more keys in TOML.
    pub fn endpoint(self, receiver: SocketAddr, path: &str, more: &str) -> Settings {
        let id = format!("ep_{}", path.trim_start_matches('/').replace('/', "_"));
        self.endpoint_of(APPLICATION, &id, &format!("http://{receiver}{path}"), more)
    }

    /// An endpoint of any application.
    pub fn endpoint_of(mut self, application: &str, id: &str, url: &str, more: &str) -> Settings {
        let _ = writeln!(
            self.endpoints,
            "[[endpoint]]\nid = \"{id}\"\napplication = \"{application}\"\nurl = \"{url}\"\nsecret = \"{SECRET}\"\n{more}"
        );
        self
    }

    /// Writes the file.
    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        let text = format!("{}\n{}", self.sections, self.endpoints);
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }
}
