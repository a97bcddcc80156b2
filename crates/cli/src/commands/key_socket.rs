//! The socket at which the process that serves makes, lists and revokes static keys of the API: one request and one answer for each
//! connection, as JSON lines. Whoever may open it may make any key.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use hooklane_api::Api;
use hooklane_api::key::{Done, Request};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::admin_socket;

/// No longer than the other socket's: see there.
const NAME: &str = "keys.sock";
/// One connection's time, from its first byte to its last. One is served after the other.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest line, in bytes: a list of all keys of an organisation fits in.
const LINE_BYTES_MAX: u64 = 4 * 1024 * 1024;

#[derive(Serialize, Deserialize)]
enum Answer {
    Done(Done),
    Refused(String),
}

/// Its path.
///
/// # Errors
/// When the directory's name is too long for a socket in it.
pub fn path(data_dir: &Path) -> anyhow::Result<PathBuf> {
    Ok(admin_socket::path(data_dir)?.with_file_name(NAME))
}

/// Serves until `stop`.
pub async fn serve(listener: UnixListener, api: Arc<Api>, stop: CancellationToken) {
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let served = async {
            let (stream, _) = accepted?;
            timeout(TIMEOUT, answer(stream, &api))
                .await
                .context("the other end took too long")?
        };
        if let Err(error) = served.await {
            warn!("a request for keys was not answered: {error:#}");
        }
    }
}

async fn answer(mut stream: UnixStream, api: &Api) -> anyhow::Result<()> {
    let request: Request = read(&mut stream).await?;
    let changes = match &request {
        Request::Create { organisation, .. } => Some(("made", organisation.clone())),
        Request::Revoke { organisation, .. } => Some(("revoked", organisation.clone())),
        Request::List { .. } => None,
    };
    let answer = match api.change_keys(request).await {
        Ok(done) => {
            if let Some((what, organisation)) = changes {
                info!(organisation, "a key of the API was {what}");
            }
            Answer::Done(done)
        }
        Err(error) => Answer::Refused(error.to_string()),
    };
    write(&mut stream, &answer).await
}

/// Asks the process that serves; none when there is none.
pub async fn ask(path: &Path, request: &Request) -> anyhow::Result<Option<Done>> {
    let Ok(mut stream) = UnixStream::connect(path).await else {
        return Ok(None);
    };
    let asked = timeout(TIMEOUT, async {
        write(&mut stream, request).await?;
        read(&mut stream).await
    });
    let shown = path.display();
    let answer = asked
        .await
        .with_context(|| format!("nothing answers at {shown}"))?;
    match answer.with_context(|| format!("{shown} cannot be used"))? {
        Answer::Done(done) => Ok(Some(done)),
        Answer::Refused(why) => Err(anyhow!(why)),
    }
}

async fn write(stream: &mut UnixStream, value: &impl Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(stream.write_all(&line).await?)
}

async fn read<T: DeserializeOwned>(stream: &mut UnixStream) -> anyhow::Result<T> {
    let mut line = Vec::new();
    let mut reader = BufReader::new(stream.take(LINE_BYTES_MAX));
    reader.read_until(b'\n', &mut line).await?;
    ensure!(line.ends_with(b"\n"), "the line is not whole");
    Ok(serde_json::from_slice(&line)?)
}
