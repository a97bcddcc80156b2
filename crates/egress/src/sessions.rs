//! TLS sessions to resume: one bounded store over all profiles, which never share a session.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hooklane_telemetry::{Metric, Metrics};
use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls_pki_types::ServerName;

use crate::bounded::Bounded;

/// Tickets kept per server. Each serves one connection; a server usually sends two per connection.
const TICKETS_MAX: usize = 4;

#[derive(Default)]
struct Server {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    tls13: VecDeque<Tls13ClientSessionValue>,
}

/// All sessions.
pub(crate) struct Sessions {
    servers: Mutex<Bounded<(u64, ServerName<'static>), Server>>,
    metrics: Arc<Metrics>,
}

impl Sessions {
    pub(crate) fn new(servers_max: usize, metrics: Arc<Metrics>) -> Arc<Sessions> {
        Arc::new(Sessions {
            servers: Mutex::new(Bounded::new(servers_max)),
            metrics,
        })
    }

    /// The part of one profile: a session made with one client certificate or CA is of no use to another.
    pub(crate) fn of_profile(self: &Arc<Sessions>, profile: u64) -> ProfileSessions {
        ProfileSessions {
            sessions: self.clone(),
            profile,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Bounded<(u64, ServerName<'static>), Server>> {
        // A panic leaves at worst a half-used ticket list.
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sessions of one profile; they go with it.
pub(crate) struct ProfileSessions {
    sessions: Arc<Sessions>,
    profile: u64,
}

impl ProfileSessions {
    fn edit(&self, name: ServerName<'static>, edit: impl FnOnce(&mut Server)) {
        let key = (self.profile, name);
        let mut servers = self.sessions.lock();
        if let Some(server) = servers.get(&key) {
            return edit(server);
        }
        let mut server = Server::default();
        edit(&mut server);
        servers.insert(key, server);
        self.sessions
            .metrics
            .set(Metric::TlsSessions, &[], servers.len() as f64);
    }

    fn look<T>(&self, name: &ServerName<'_>, look: impl FnOnce(&mut Server) -> Option<T>) -> Option<T> {
        self.sessions
            .lock()
            .get(&(self.profile, name.to_owned()))
            .and_then(look)
    }
}

impl ClientSessionStore for ProfileSessions {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.edit(name, |server| server.group = Some(group));
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.look(name, |server| server.group)
    }

    fn set_tls12_session(&self, name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.edit(name, |server| server.tls12 = Some(value));
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.look(name, |server| server.tls12.clone())
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.look(name, |server| server.tls12.take());
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.edit(name, |server| {
            if server.tls13.len() >= TICKETS_MAX {
                server.tls13.pop_front();
            }
            server.tls13.push_back(value);
        });
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.look(name, |server| server.tls13.pop_back())
    }
}

impl fmt::Debug for ProfileSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Tickets are secrets.
        write!(f, "ProfileSessions({})", self.profile)
    }
}

impl Drop for ProfileSessions {
    fn drop(&mut self) {
        let mut servers = self.sessions.lock();
        servers.retain(|(profile, _)| *profile != self.profile);
        self.sessions
            .metrics
            .set(Metric::TlsSessions, &[], servers.len() as f64);
    }
}
