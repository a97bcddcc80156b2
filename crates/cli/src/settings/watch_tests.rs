//! Following a file that changes, breaks, vanishes and comes back.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hooklane_telemetry::{Metric, Metrics};
use hooklane_types::{EndpointId, Registry};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::watch::{Look, Watch};
use super::{Role, Sources, load};

const HEAD: &str = "[broker]\nurl = \"amqp://h\"\n";

fn endpoint(id: &str) -> String {
    format!(
        "[[endpoint]]\nid = \"{id}\"\nurl = \"https://h/\"\nsecret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n"
    )
}

struct Followed {
    path: PathBuf,
    watch: Watch,
    registry: watch::Receiver<Arc<Registry>>,
    metrics: Arc<Metrics>,
}

impl Followed {
    fn start(dir: &Path) -> Followed {
        let path = dir.join("hooklane.toml");
        fs::write(&path, format!("{HEAD}{}", endpoint("a"))).unwrap();
        let sources = Sources {
            file: Some(path.clone()),
            ..Sources::default()
        };
        let loaded = load(&sources, Role::Dispatcher).unwrap();
        let metrics = Arc::new(Metrics::new());
        let (watch, registry) = Watch::new(sources, Role::Dispatcher, loaded, metrics.clone());
        Followed {
            path,
            watch,
            registry,
            metrics,
        }
    }

    fn knows(&self, id: &str) -> bool {
        self.registry
            .borrow()
            .endpoint(&EndpointId::parse(id).unwrap())
            .is_some()
    }

    fn reloads(&self, result: &str) -> f64 {
        self.metrics.value(Metric::ConfigReloads, &[result])
    }

    async fn look_twice(&mut self) -> Look {
        assert_eq!(
            self.watch.look(false).await,
            Look::Unchanged,
            "a change has to stand still first"
        );
        self.watch.look(false).await
    }
}

#[tokio::test]
async fn a_changed_file_takes_force_once_it_stood_still() {
    let dir = tempfile::tempdir().unwrap();
    let mut followed = Followed::start(dir.path());
    assert_eq!(followed.watch.look(false).await, Look::Unchanged);
    fs::write(&followed.path, HEAD).unwrap();
    assert_eq!(followed.watch.look(false).await, Look::Unchanged);
    assert!(followed.knows("a"), "half a file removes no endpoint");
    fs::write(
        &followed.path,
        format!("{HEAD}{}{}", endpoint("a"), endpoint("b")),
    )
    .unwrap();
    assert_eq!(followed.look_twice().await, Look::Applied);
    assert!(followed.knows("a") && followed.knows("b"));
    assert_eq!(followed.reloads("applied"), 1.0);
    assert_eq!(followed.metrics.value(Metric::ConfigEndpoints, &[]), 2.0);
    assert_eq!(followed.watch.look(false).await, Look::Unchanged);
}

#[tokio::test]
async fn a_bad_file_keeps_the_old_one_in_force_and_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut followed = Followed::start(dir.path());
    fs::write(&followed.path, format!("{HEAD}[[endpoint]]\nid = \"b\"\n")).unwrap();
    assert_eq!(followed.look_twice().await, Look::Refused);
    assert_eq!(followed.watch.look(false).await, Look::Unchanged);
    assert!(followed.knows("a") && !followed.knows("b"));
    assert_eq!(
        (followed.reloads("refused"), followed.reloads("applied")),
        (1.0, 0.0)
    );
    fs::write(&followed.path, format!("{HEAD}{}", endpoint("b"))).unwrap();
    assert_eq!(followed.look_twice().await, Look::Applied);
    assert!(followed.knows("b"));
}

#[tokio::test]
async fn a_vanished_file_is_reported_once_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut followed = Followed::start(dir.path());
    let text = fs::read_to_string(&followed.path).unwrap();
    fs::remove_file(&followed.path).unwrap();
    assert_eq!(followed.watch.look(false).await, Look::Refused);
    assert_eq!(followed.watch.look(false).await, Look::Refused);
    assert_eq!(followed.reloads("refused"), 1.0);
    fs::write(&followed.path, text).unwrap();
    assert_eq!(followed.watch.look(false).await, Look::Unchanged);
    assert!(followed.knows("a"));
}

/// Goal: Kubernetes swaps a symbolic link to a directory; the file's own path and times stay as they are.
#[tokio::test]
async fn a_swapped_link_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    for (version, id) in [("v1", "a"), ("v2", "b")] {
        fs::create_dir(dir.path().join(version)).unwrap();
        fs::write(
            dir.path().join(version).join("hooklane.toml"),
            format!("{HEAD}{}", endpoint(id)),
        )
        .unwrap();
    }
    let link = dir.path().join("current");
    std::os::unix::fs::symlink("v1", &link).unwrap();
    let mut followed = Followed::start(&link);
    assert!(followed.knows("a"));
    std::os::unix::fs::symlink("v2", dir.path().join("next")).unwrap();
    fs::rename(dir.path().join("next"), &link).unwrap();
    assert_eq!(followed.look_twice().await, Look::Applied);
    assert!(followed.knows("b") && !followed.knows("a"));
}

/// Goal: the loop acts on a SIGHUP at once, and on a change by itself; it ends at the stop.
#[tokio::test]
async fn the_loop_follows_signal_and_change_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let followed = Followed::start(dir.path());
    let (now, stop) = (Arc::new(Notify::new()), CancellationToken::new());
    let mut registry = followed.registry.clone();
    let task = tokio::spawn(followed.watch.follow(now.clone(), stop.clone()));
    fs::write(&followed.path, format!("{HEAD}{}", endpoint("b"))).unwrap();
    now.notify_one();
    let wait = Duration::from_secs(20);
    tokio::time::timeout(wait, registry.changed())
        .await
        .unwrap()
        .unwrap();
    fs::write(&followed.path, format!("{HEAD}{}", endpoint("c"))).unwrap();
    let has_c = |registry: &Arc<Registry>| registry.endpoint(&EndpointId::parse("c").unwrap()).is_some();
    tokio::time::timeout(wait, registry.wait_for(has_c))
        .await
        .unwrap()
        .unwrap();
    stop.cancel();
    tokio::time::timeout(wait, task).await.unwrap().unwrap().unwrap();
}
