//! One hyper client, with its pool, per set of TLS files: a connection made with one client certificate never
//! carries the requests of another endpoint.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hooklane_types::TlsFiles;
use http_body_util::Full;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::RootCertStore;
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

use crate::bounded::Bounded;
use crate::connector::{Connector, Network};
use crate::sessions::Sessions;
use crate::settings::EgressSettings;
use crate::tls::{self, Stamp, TlsError};

/// How often a profile's files are looked at, so that a renewed certificate needs no restart.
const FILES_CHECK: Duration = Duration::from_secs(5);
/// Longest head of an answer over HTTP/1, in bytes; also what one connection's read buffer grows to.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// What an HTTP/2 receiver may send ahead of our reading, per stream: the part of a body that we keep.
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;
/// The same over all streams of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// An HTTP/2 connection that does not answer a ping is dead: without it every attempt on it would time out.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// HTTP/2 where the server has it.
pub(crate) const ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];

/// A client with its pool.
pub(crate) type Http = legacy::Client<Connector, Full<Bytes>>;

/// Why there is no client for a set of files.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ProfileError(String);

/// A loaded set of files.
struct Profile {
    http: Arc<Http>,
    stamp: Stamp,
    check_at: Mutex<Instant>,
}

/// All profiles.
pub(crate) struct Profiles {
    /// That of endpoints without TLS files: almost all.
    plain: Arc<Http>,
    /// Set once by whoever needs it first; the others wait for it.
    profiles: Mutex<Bounded<TlsFiles, Arc<OnceCell<Profile>>>>,
    maker: Maker,
}

/// What it takes to make a client.
#[derive(Clone)]
pub(crate) struct Maker {
    pub(crate) network: Arc<Network>,
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) profile_next: Arc<AtomicU64>,
    pub(crate) connections_idle_max: usize,
    pub(crate) connection_idle: Duration,
}

impl Profiles {
    pub(crate) fn new(settings: &EgressSettings, maker: Maker) -> Result<Profiles, TlsError> {
        let plain = maker.http(&TlsFiles::default())?;
        Ok(Profiles {
            plain,
            profiles: Mutex::new(Bounded::new(settings.clients_max)),
            maker,
        })
    }

    /// The client for a set of files.
    pub(crate) async fn http(&self, files: &TlsFiles) -> Result<Arc<Http>, ProfileError> {
        if files.ca.is_none() && files.client.is_none() {
            return Ok(self.plain.clone());
        }
        let cell = self.cell(files);
        let profile = cell.get_or_try_init(|| self.maker.profile(files)).await?;
        if profile.check_is_due() {
            return Ok(self.refreshed(files, profile).await);
        }
        Ok(profile.http.clone())
    }

    fn cell(&self, files: &TlsFiles) -> Arc<OnceCell<Profile>> {
        let mut profiles = self.lock();
        if let Some(cell) = profiles.get(files) {
            return cell.clone();
        }
        let cell = Arc::new(OnceCell::new());
        profiles.insert(files.clone(), cell.clone());
        cell
    }

    /// The client after a look at the files. Changed files that cannot be used leave the old ones in force: a
    /// certificate and its key are seldom replaced at the same instant.
    async fn refreshed(&self, files: &TlsFiles, profile: &Profile) -> Arc<Http> {
        let looked_at = files.clone();
        match spawn_blocking(move || tls::stamp(&looked_at)).await {
            Ok(stamp) if stamp != profile.stamp => {}
            _ => return profile.http.clone(),
        }
        match self.maker.profile(files).await {
            Ok(renewed) => {
                let http = renewed.http.clone();
                self.lock()
                    .insert(files.clone(), Arc::new(OnceCell::new_with(Some(renewed))));
                tracing::info!("changed TLS files of an endpoint are in force");
                http
            }
            Err(error) => {
                tracing::warn!(%error, "changed TLS files of an endpoint cannot be used; the old ones stay in force");
                profile.http.clone()
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Bounded<TlsFiles, Arc<OnceCell<Profile>>>> {
        self.profiles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Profile {
    /// True once per [`FILES_CHECK`], for one caller.
    fn check_is_due(&self) -> bool {
        let now = Instant::now();
        let mut check_at = self.check_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = now >= *check_at;
        if is_due {
            *check_at = now + FILES_CHECK;
        }
        is_due
    }
}

impl Maker {
    /// Reads the files, off the threads that serve connections.
    async fn profile(&self, files: &TlsFiles) -> Result<Profile, ProfileError> {
        let (maker, files) = (self.clone(), files.clone());
        let made = spawn_blocking(move || {
            // The stamp first: a change in between is noticed at the next look.
            let stamp = tls::stamp(&files);
            maker.http(&files).map(|http| (stamp, http))
        })
        .await;
        match made {
            Ok(Ok((stamp, http))) => Ok(Profile {
                http,
                stamp,
                check_at: Mutex::new(Instant::now() + FILES_CHECK),
            }),
            Ok(Err(error)) => Err(ProfileError(error.to_string())),
            Err(_) => Err(ProfileError(
                "TLS files could not be read: the process is stopping".to_owned(),
            )),
        }
    }

    fn http(&self, files: &TlsFiles) -> Result<Arc<Http>, TlsError> {
        let sessions = self
            .sessions
            .of_profile(self.profile_next.fetch_add(1, Ordering::Relaxed));
        let tls = tls::client_config(files, &self.roots, sessions, ALPN)?;
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(self.connection_idle)
            .pool_max_idle_per_host(self.connections_idle_max.max(1))
            // Repeats only what a reused connection had not begun to write when it closed: hyper hands such a request
            // back whole. What may have been sent is never repeated here; that is the retry policy's business.
            .retry_canceled_requests(true)
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
            .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT);
        Ok(Arc::new(builder.build(Connector::new(self.network.clone(), tls))))
    }
}
