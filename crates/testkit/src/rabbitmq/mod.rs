//! Private RabbitMQ nodes of the installed binaries: never the system's service, on 127.0.0.1 only, as any user.
//!
//! `HOOKLANE_TEST_RABBITMQ_BIN` names another directory of binaries; `HOOKLANE_TEST_RABBITMQ_CHROOT` a root directory (of a newer
//! Debian, say) in which they and their Erlang are installed (needs root).

mod cluster;
mod ctl;
mod epmd;
mod node;
mod shared;
mod site;

pub use cluster::Cluster;
pub use ctl::Ctl;
pub use node::{Node, Options};
pub use shared::{Rights, SharedNode, User, Vhost, shared};

use std::fmt::Write;
use std::time::Duration;

/// A node on a busy machine of two cores; 5 s when it is calm.
const START_MAX: Duration = Duration::from_secs(180);
/// SIGTERM to exit; 1.1 s when calm.
const STOP_MAX: Duration = Duration::from_secs(60);
/// One call of rabbitmqctl; 0.5 s when calm.
const CTL_MAX: Duration = Duration::from_secs(90);

/// An AMQP URL; all parts are escaped.
pub(crate) fn amqp_url(scheme: &str, user: &str, password: &str, authority: &str, vhost: &str) -> String {
    format!(
        "{scheme}://{}:{}@{authority}/{}",
        escape(user),
        escape(password),
        escape(vhost)
    )
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            write!(escaped, "%{byte:02X}").expect("writing to a String does not fail");
        }
    }
    escaped
}
