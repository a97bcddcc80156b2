//! The socket of the process that serves, in its data directory: for the commands of a second terminal.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::net::UnixListener;

use super::usage;

const NAME: &str = "admin.sock";
/// Whoever may open it may publish and read every dead letter.
const MODE: u32 = 0o600;
/// Where it is made: nobody else comes in here. With the name in it no longer than [`NAME`], for a socket's path is short.
const PRIVATE: &str = ".admin";
const PRIVATE_MODE: u32 = 0o700;
const PRIVATE_NAME: &str = "s";

/// Its path.
///
/// # Errors
/// When the directory's name is too long for a socket in it (107 bytes on Linux, see unix(7)).
pub fn path(data_dir: &Path) -> anyhow::Result<PathBuf> {
    let path = data_dir.join(NAME);
    if SocketAddr::from_pathname(&path).is_err() {
        return Err(usage(format!(
            "the data directory's name is too long for a Unix socket in it ({} bytes: {}): name a shorter one with --data, \
             HOOKLANE_EMBEDDED__DATA_DIR or `data_dir` in [embedded], or a symbolic link to this one",
            path.as_os_str().len(),
            path.display()
        )));
    }
    Ok(path)
}

/// Listens. The directory's lock is ours: a socket that lies there is nobody's. Ours is seen there only with its mode.
///
/// # Errors
/// When the directory cannot be written to.
pub fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    bind(path).with_context(|| format!("cannot listen on {}", path.display()))
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    let private = path.with_file_name(PRIVATE);
    // Of a process that was killed just here.
    match fs::remove_dir_all(&private) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    DirBuilder::new().mode(PRIVATE_MODE).create(&private)?;
    let made = private.join(PRIVATE_NAME);
    let listener = UnixListener::bind(&made)?;
    fs::set_permissions(&made, Permissions::from_mode(MODE))?;
    fs::rename(&made, path)?;
    fs::remove_dir(&private)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Goal: nobody else ever finds a socket that lets them in, nor none while one is replaced; watched by a thread that does nothing
    /// else.
    #[tokio::test]
    async fn the_socket_has_its_mode_from_its_first_appearance() {
        let directory = tempfile::tempdir().unwrap();
        let socket = path(directory.path()).unwrap();
        let is_over = AtomicBool::new(false);
        let seen = std::thread::scope(|scope| {
            let watching = scope.spawn(|| {
                let mut seen = std::collections::BTreeSet::new();
                while !is_over.load(Ordering::Relaxed) {
                    if let Ok(found) = fs::metadata(&socket) {
                        seen.insert(found.permissions().mode() & 0o777);
                    }
                }
                seen
            });
            for _ in 0..1_000 {
                drop(listen(&socket).unwrap());
                fs::remove_file(&socket).unwrap();
            }
            is_over.store(true, Ordering::Relaxed);
            watching.join().unwrap()
        });
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [MODE]);
    }

    #[tokio::test]
    async fn what_a_killed_process_left_is_replaced_and_the_socket_answers() {
        let directory = tempfile::tempdir().unwrap();
        let socket = path(directory.path()).unwrap();
        drop(listen(&socket).unwrap());
        fs::create_dir(directory.path().join(PRIVATE)).unwrap();
        drop(UnixListener::bind(directory.path().join(PRIVATE).join(PRIVATE_NAME)).unwrap());
        let listener = listen(&socket).unwrap();
        let (asked, accepted) = tokio::join!(tokio::net::UnixStream::connect(&socket), listener.accept());
        asked.unwrap();
        accepted.unwrap();
        assert_eq!(
            fs::read_dir(directory.path()).unwrap().count(),
            1,
            "nothing else is left"
        );
    }

    #[test]
    fn every_directory_that_has_room_for_the_socket_has_room_for_making_it() {
        assert!(PRIVATE.len() + 1 + PRIVATE_NAME.len() <= NAME.len());
    }
}
