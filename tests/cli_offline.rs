//! Commands that need no broker, driven as a user does: by the built binary.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use hooklane_receiver::{Options, Receiver, Reply};
use hooklane_testkit::process::{Ended, Spawn, hooklane};

const DEADLINE: Duration = Duration::from_secs(30);
// Published test data of Standard Webhooks' libraries.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const TIMESTAMP: &str = "1614265330";
const BODY: &str = "{\"test\": 2432232314}";
const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

fn command(dir: &Path, arguments: &[&str]) -> Spawn {
    hooklane().expect("the binary was built").args(arguments).cwd(dir)
}

async fn run(dir: &Path, arguments: &[&str]) -> Ended {
    command(dir, arguments)
        .run(DEADLINE)
        .await
        .expect("the command ends")
}

/// A directory with the vector's body in it.
fn with_body() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("body.json"), BODY).unwrap();
    dir
}

/// A directory with a settings file that says nothing: a dispatcher wants one.
fn with_settings() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("hooklane.toml"), "").unwrap();
    dir
}

#[tokio::test]
async fn sign_prints_the_published_vector() {
    let dir = with_body();
    let ended = run(
        dir.path(),
        &[
            "sign",
            "body.json",
            "--secret",
            SECRET,
            "--id",
            ID,
            "--timestamp",
            TIMESTAMP,
        ],
    )
    .await;
    let expected =
        format!("webhook-id: {ID}\nwebhook-timestamp: {TIMESTAMP}\nwebhook-signature: {SIGNATURE}\n");
    assert_eq!(ended.stdout, expected, "{}", ended.stderr);
    assert!(ended.status.success());
}

/// Goal: the user's own example, a hex HMAC-SHA256 over the body. The value is what `openssl dgst -sha256 -hmac key` prints.
#[tokio::test]
async fn sign_makes_a_plain_hmac_of_a_secret_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("body"),
        "The quick brown fox jumps over the lazy dog",
    )
    .unwrap();
    fs::write(dir.path().join("secret"), "key\n").unwrap();
    let arguments = [
        "sign",
        "body",
        "--secret-file",
        "secret",
        "--scheme",
        "hmac",
        "--signature-prefix",
        "sha256=",
    ];
    let ended = run(dir.path(), &arguments).await;
    let digest = "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8";
    assert_eq!(
        ended.stdout,
        format!("x-signature: sha256={digest}\n"),
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn verify_says_ok_or_why_not() {
    let dir = with_body();
    let (id, time) = (
        format!("webhook-id: {ID}"),
        format!("webhook-timestamp: {TIMESTAMP}"),
    );
    let signature = format!("Webhook-Signature: {SIGNATURE}");
    let mut arguments = vec![
        "verify",
        "body.json",
        "--secret",
        SECRET,
        "--header",
        &id,
        "--header",
        &time,
        "--header",
        &signature,
    ];
    let late = run(dir.path(), &arguments).await;
    assert_eq!(late.status.code(), Some(1));
    assert!(late.stderr.contains("too old"), "{}", late.stderr);
    arguments.extend(["--now", TIMESTAMP]);
    let right = run(dir.path(), &arguments).await;
    assert_eq!(
        (right.status.code(), right.stdout.as_str()),
        (Some(0), "ok\n"),
        "{}",
        right.stderr
    );
    fs::write(dir.path().join("body.json"), format!("{BODY}\n")).unwrap();
    let changed = run(dir.path(), &arguments).await;
    assert_eq!(changed.status.code(), Some(1));
    assert!(
        changed.stderr.contains("no signature matches"),
        "{}",
        changed.stderr
    );
}

#[tokio::test]
async fn sign_and_verify_know_the_formats_of_github_and_stripe() {
    // Goal: what `sign` prints is the published value, and `verify` takes it back; a wrong body is refused.
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("body"), r#"{"id":"evt_1"}"#).unwrap();
    let stripe = "stripe-signature: t=1700000000,v1=c89214b5b5da833daed6f0b8c5bb6bd58cea9022bd80ccc78230f3942d632925\n";
    let github = "x-github-event: invoice.paid\nx-github-delivery: cbdf753a-4fb4-5d5c-b6f3-d7fa29678725\n";
    for (scheme, printed) in [("stripe", stripe), ("github", github)] {
        let common = ["body", "--secret", "whsec_test", "--scheme", scheme];
        let mut arguments = vec!["sign"];
        arguments.extend(common);
        arguments.extend([
            "--timestamp",
            "1700000000",
            "--id",
            ID,
            "--event-type",
            "invoice.paid",
        ]);
        let signed = run(dir.path(), &arguments).await;
        assert!(
            signed.stdout.ends_with(printed),
            "{}{}",
            signed.stdout,
            signed.stderr
        );
        let mut arguments = vec!["verify"];
        arguments.extend(common);
        arguments.extend(["--now", "1700000000"]);
        arguments.extend(signed.stdout.lines().flat_map(|line| ["--header", line]));
        let verified = run(dir.path(), &arguments).await;
        assert_eq!(verified.stdout, "ok\n", "{}", verified.stderr);
        arguments[1] = "-";
        assert_eq!(run(dir.path(), &arguments).await.status.code(), Some(1));
    }
}

#[tokio::test]
async fn a_fresh_ed25519_pair_signs_and_verifies() {
    let dir = with_body();
    let made = run(dir.path(), &["secret", "--kind", "ed25519"]).await;
    let (private, public) = made.stdout.trim().split_once('\n').expect("two lines");
    fs::write(dir.path().join("private"), private).unwrap();
    fs::write(dir.path().join("public"), public).unwrap();
    let signed = run(dir.path(), &["sign", "body.json", "--secret-file", "private"]).await;
    let mut arguments = vec!["verify", "body.json", "--secret-file", "public"];
    arguments.extend(signed.stdout.lines().flat_map(|line| ["--header", line]));
    let verified = run(dir.path(), &arguments).await;
    assert_eq!(verified.stdout, "ok\n", "{}", verified.stderr);
}

#[tokio::test]
async fn init_writes_a_file_of_its_own_that_loads_and_overwrites_none() {
    let dir = tempfile::tempdir().unwrap();
    let first = run(dir.path(), &["init"]).await;
    assert!(first.status.success(), "{}", first.stderr);
    let path = dir.path().join("hooklane.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600,
        "it holds a secret"
    );
    let second = run(dir.path(), &["init"]).await;
    assert_eq!(second.status.code(), Some(1));
    assert!(second.stderr.contains("stays as it is"), "{}", second.stderr);
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    let other = run(dir.path(), &["init", "other.toml"]).await;
    assert!(other.status.success(), "{}", other.stderr);
    assert_ne!(
        fs::read_to_string(dir.path().join("other.toml")).unwrap(),
        text,
        "each has its own secret"
    );
    let loaded = run(dir.path(), &["topology"]).await;
    assert!(loaded.status.success(), "{}", loaded.stderr);
}

/// Goal: with a URL the file is ready, with a receiver on this machine too; a secret that is there is kept.
#[tokio::test]
async fn init_with_a_url_writes_a_file_that_is_ready() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("webhook.secret");
    let url = "http://127.0.0.1:8073/hook";
    let mut secrets = Vec::new();
    for file in ["hooklane.toml", "other.toml"] {
        let ended = run(
            dir.path(),
            &["init", file, "--url", url, "--secret-file", "webhook.secret"],
        )
        .await;
        assert!(ended.status.success(), "{}", ended.stderr);
        secrets.push(fs::read_to_string(&secret).unwrap());
    }
    assert!(
        secrets[0] == secrets[1] && secrets[0].starts_with("whsec_"),
        "{secrets:?}"
    );
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    // The queue's directory is not there yet, which is no problem.
    let checked = run(dir.path(), &["check"]).await;
    assert!(checked.status.success(), "{}{}", checked.stdout, checked.stderr);
    fs::create_dir(dir.path().join("etc")).unwrap();
    let elsewhere = [
        "init",
        "etc/hooklane.toml",
        "--url",
        url,
        "--secret-file",
        "webhook.secret",
    ];
    assert!(run(dir.path(), &elsewhere).await.status.success());
    let checked = run(dir.path(), &["check", "--config", "etc/hooklane.toml"]).await;
    assert!(checked.status.success(), "{}{}", checked.stdout, checked.stderr);
    let refused = run(dir.path(), &["init", "third.toml", "--url", "ftp://example.com"]).await;
    assert!(
        refused.status.code() == Some(2) && refused.stderr.contains("https://"),
        "{}",
        refused.stderr
    );
    assert!(!dir.path().join("third.toml").exists());
}

/// Goal: an `init` that fails half way leaves nothing that blocks the next one, whichever of its two files cannot be made.
#[tokio::test]
async fn init_that_fails_leaves_nothing_in_the_way_of_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let no_secret = ["init", "--secret-file", "none/webhook.secret"];
    let no_settings = ["init", "none/hooklane.toml", "--secret-file", "webhook.secret"];
    for arguments in [&no_secret[..], &no_settings] {
        let ended = run(dir.path(), arguments).await;
        assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains("none/"), "{}", ended.stderr);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{arguments:?}");
    }
    let again = run(dir.path(), &["init", "--secret-file", "webhook.secret"]).await;
    assert!(again.status.success(), "{}", again.stderr);
    // A file that is there already: no secret is made for it, and one that is there stays.
    let secret = fs::read(dir.path().join("webhook.secret")).unwrap();
    for file in ["webhook.secret", "other.secret"] {
        let ended = run(dir.path(), &["init", "--secret-file", file]).await;
        assert!(ended.stderr.contains("stays as it is"), "{}", ended.stderr);
    }
    assert_eq!(fs::read(dir.path().join("webhook.secret")).unwrap(), secret);
    assert!(!dir.path().join("other.secret").exists());
}

#[tokio::test]
async fn topology_prints_names_arguments_and_rights() {
    let dir = tempfile::tempdir().unwrap();
    let text = command(dir.path(), &["topology"]).env("HOOKLANE_BROKER__PREFIX", "acme");
    let text = text.run_ok(DEADLINE).await.unwrap();
    for expected in [
        "acme.events",
        "x-delivery-limit=1000000",
        "acme.faults",
        "set_permissions",
    ] {
        assert!(text.contains(expected), "{expected} is missing in {text}");
    }
    let json = run(dir.path(), &["topology", "--format", "json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    let names: Vec<_> = json["queues"]
        .as_array()
        .unwrap()
        .iter()
        .map(|queue| &queue["name"])
        .collect();
    assert!(
        names.contains(&&serde_json::json!("hooklane.deliveries")),
        "{names:?}"
    );
    assert_eq!(json["rights"]["ingest"]["configure"], "^$");
}

/// Goal: all that is wrong with the settings is on the screen at once, and the exit code says whose fault it is.
#[tokio::test]
async fn wrong_settings_end_a_service_with_the_whole_report() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("hooklane.toml"),
        "[broker]\nurl = \"amqp://h\"\nprefx = \"x\"\n[ingest]\nlisten = \"here\"\n",
    )
    .unwrap();
    let ended =
        command(dir.path(), &["ingest", "--log-format", "xml"]).env("HOOKLANE_EGRESS__HTTPS_ONLY", "maybe");
    let ended = ended.run(DEADLINE).await.unwrap();
    assert_eq!(ended.status.code(), Some(2));
    for expected in [
        "4 problems in the settings",
        "hooklane.toml:3: broker.prefx: unknown key",
        "did you mean `prefix`?",
        "hooklane.toml:5: ingest.listen: ",
        "HOOKLANE_EGRESS__HTTPS_ONLY: egress.https_only: ",
        "--log-format: log.format: ",
    ] {
        assert!(
            ended.stderr.contains(expected),
            "{expected:?} is missing in\n{}",
            ended.stderr
        );
    }
}

#[tokio::test]
async fn a_missing_file_and_a_missing_broker_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let missing = run(dir.path(), &["topology", "--config", "none.toml"]).await;
    assert_eq!(missing.status.code(), Some(2));
    assert!(
        missing.stderr.contains("none.toml") && missing.stderr.contains("hooklane init"),
        "{}",
        missing.stderr
    );
    let neither = run(dir.path(), &["dispatcher"]).await;
    assert_eq!(neither.status.code(), Some(2));
    for expected in [
        "2 problems",
        "hooklane.toml: there is no such file",
        "--broker, HOOKLANE_BROKER__URL",
    ] {
        assert!(
            neither.stderr.contains(expected),
            "{expected}: {}",
            neither.stderr
        );
    }
}

#[tokio::test]
async fn a_port_in_use_names_the_setting() {
    let dir = with_settings();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (service, variable) in [
        ("ingest", "HOOKLANE_INGEST__LISTEN"),
        ("dispatcher", "HOOKLANE_DISPATCHER__LISTEN"),
    ] {
        let ended = run(
            dir.path(),
            &[service, "--broker", "amqp://127.0.0.1:1", "--listen", &address],
        )
        .await;
        assert_eq!(ended.status.code(), Some(1));
        assert!(
            ended.stderr.contains(&address) && ended.stderr.contains(variable),
            "{}",
            ended.stderr
        );
    }
}

/// Goal: without its broker a service lives, says that it is not ready, names its port, and ends in order at SIGTERM.
#[tokio::test]
async fn services_start_without_their_broker_and_end_at_sigterm() {
    let dir = with_settings();
    for service in ["ingest", "dispatcher"] {
        let arguments = [
            service,
            "--broker",
            "amqp://127.0.0.1:1",
            "--listen",
            "127.0.0.1:0",
        ];
        let process = command(dir.path(), &arguments).start().unwrap();
        let line = process
            .wait_for_line("listening on http://127.0.0.1:", DEADLINE)
            .await
            .unwrap();
        let base = line.text.trim_start_matches("listening on ").to_owned();
        let status = |path: &str| {
            let url = format!("{base}{path}");
            async move { http_status(&url).await }
        };
        assert_eq!(status("/healthz").await, 200, "{service}");
        assert_eq!(status("/readyz").await, 503, "{service}");
        assert_eq!(status("/metrics").await, 200, "{service}");
        process.terminate().unwrap();
        assert_eq!(process.wait(DEADLINE).await.unwrap().code(), Some(0), "{service}");
    }
}

/// The status of a GET, by the few bytes of HTTP that it takes.
async fn http_status(url: &str) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (host, path) = url.trim_start_matches("http://").split_once('/').unwrap();
    let mut stream = tokio::net::TcpStream::connect(host).await.unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(DEADLINE, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn publish_refuses_what_the_way_cannot_carry() {
    let dir = tempfile::tempdir().unwrap();
    let event = ["publish", "--type", "a.b", "--broker", "amqp://127.0.0.1:1"];
    let cases: [(&[&str], &str); 4] = [
        (
            &["--payload", "{}", "--channel", "eu"],
            "not part of the AMQP contract",
        ),
        (&[], "--payload"),
        (&["--payload", "{}", "--via", "127.0.0.1:1"], "--via"),
        (&["--payload", "{}", "--application", "a b"], "--application"),
    ];
    for (more, expected) in cases {
        let ended = run(dir.path(), &[&event[..], more].concat()).await;
        assert_eq!(ended.status.code(), Some(2), "{more:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{more:?}: {}", ended.stderr);
    }
}

/// Goal: over HTTP the payload's text arrives byte by byte, with application, id, channels and token where they belong.
#[tokio::test]
async fn publish_by_http_sends_the_exact_payload() {
    let dir = tempfile::tempdir().unwrap();
    let ingest = Receiver::start(Options::default()).await.unwrap();
    ingest.script_default([Reply::status(202).body("{\"id\":\"msg_7\",\"eventType\":\"a.b\"}")]);
    let payload = "{ \"b\" : 1.0, \"a\":[1 ,2],\n\"b\": 1e2 }";
    let arguments = [
        "publish",
        "--via",
        &ingest.url("/base/"),
        "--application",
        "acme",
        "--type",
        "a.b",
        "--id",
        "order-17",
        "--channel",
        "eu",
        "--payload",
        payload,
        "--token-env",
        "TOKEN",
    ];
    let printed = command(dir.path(), &arguments)
        .env("TOKEN", "t0ken")
        .run_ok(DEADLINE)
        .await
        .unwrap();
    assert_eq!(printed, "msg_7\n");
    let requests = ingest.received();
    assert_eq!(requests.len(), 1);
    assert_eq!(&*requests[0].path, "/base/api/v1/app/acme/msg");
    assert_eq!(requests[0].header("authorization"), Some("Bearer t0ken"));
    let body = std::str::from_utf8(&requests[0].body).unwrap();
    assert_eq!(
        body,
        format!(
            "{{\"eventType\":\"a.b\",\"payload\":{payload},\"eventId\":\"order-17\",\"channels\":[\"eu\"]}}"
        )
    );
}

/// Goal: a file that fails half way says where, and the run that begins there publishes the rest.
#[tokio::test]
async fn publish_of_lines_stops_at_the_first_failure_and_can_go_on_there() {
    let dir = tempfile::tempdir().unwrap();
    let ingest = Receiver::start(Options::default()).await.unwrap();
    ingest.script_with("/api/v1/app/default/msg", |request| {
        let is_bad = std::str::from_utf8(&request.body).is_ok_and(|body| body.contains("bad"));
        if is_bad {
            Reply::status(422).body("{\"detail\":\"no\"}")
        } else {
            Reply::status(202).body("{\"id\":\"msg_1\"}")
        }
    });
    let mut lines: Vec<String> = (1..=100)
        .map(|n| format!("{{\"eventType\":\"a.b\",\"payload\":{{\"n\": {n}}},\"eventId\":\"{n}\"}}"))
        .collect();
    lines[49] = "{\"eventType\":\"bad\",\"payload\":1}".to_owned();
    fs::write(dir.path().join("events"), lines.join("\n")).unwrap();
    let url = ingest.url("");
    let stopped = run(dir.path(), &["publish", "--via", &url, "--lines", "events"]).await;
    assert_eq!(stopped.status.code(), Some(1));
    assert!(
        stopped.stderr.contains("run again with --from-line 50"),
        "{}",
        stopped.stderr
    );
    assert!(
        stopped.stderr.contains("published 49 events"),
        "{}",
        stopped.stderr
    );
    lines[49] = String::new();
    fs::write(dir.path().join("events"), lines.join("\n")).unwrap();
    let rest = run(
        dir.path(),
        &["publish", "--via", &url, "--lines", "events", "--from-line", "50"],
    )
    .await;
    assert!(rest.status.success(), "{}", rest.stderr);
    assert!(rest.stderr.contains("published 50 events"), "{}", rest.stderr);
    let numbers: std::collections::BTreeSet<_> = ingest
        .received()
        .iter()
        .filter_map(|request| {
            serde_json::from_slice::<serde_json::Value>(&request.body).unwrap()["eventId"]
                .as_str()?
                .parse::<u32>()
                .ok()
        })
        .collect();
    assert_eq!(numbers.len(), 99);
}

/// Runs a command whose standard output and standard error nobody reads, from its first byte on.
fn unread(dir: &Path, arguments: &[&str]) -> std::process::Child {
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    };
    std::process::Command::new(env!("CARGO_BIN_EXE_hooklane"))
        .args(arguments)
        .current_dir(dir)
        .stdin(std::process::Stdio::null())
        .stdout(closed())
        .stderr(closed())
        .spawn()
        .unwrap()
}

/// Goal: `hooklane … | head` never ends in a panic (exit code 101): what was done is done, what failed still says so by its code.
#[tokio::test]
async fn a_closed_pipe_changes_no_exit_code() {
    let dir = with_body();
    let ingest = Receiver::start(Options::default()).await.unwrap();
    ingest.script_default([Reply::status(202).body("{\"id\":\"msg_7\"}")]);
    let lines = "{\"eventType\":\"a.b\",\"payload\":1}\n".repeat(3);
    fs::write(dir.path().join("events"), lines).unwrap();
    let url = ingest.url("");
    let (id, time) = (
        format!("webhook-id: {ID}"),
        format!("webhook-timestamp: {TIMESTAMP}"),
    );
    let signature = format!("webhook-signature: {SIGNATURE}");
    #[rustfmt::skip]
    let cases: [(i32, &[&str]); 14] = [
        (0, &["--help"]),
        (0, &["init"]),
        (1, &["init"]),
        (0, &["secret"]),
        (0, &["secret", "--kind", "ed25519"]),
        (0, &["sign", "body.json", "--secret", SECRET]),
        (0, &["verify", "body.json", "--secret", SECRET, "--now", TIMESTAMP, "--header", &id, "--header", &time, "--header", &signature]),
        (1, &["verify", "body.json", "--secret", SECRET, "--header", &id, "--header", &time, "--header", &signature]),
        (0, &["topology"]),
        (0, &["topology", "--format", "json"]),
        (1, &["check", "--broker", "amqp://127.0.0.1:1"]),
        (0, &["publish", "--via", &url, "--type", "a.b", "--payload", "1"]),
        (0, &["publish", "--via", &url, "--lines", "events"]),
        (2, &["publish", "--via", &url, "--type", "a b", "--payload", "1"]),
    ];
    for (code, arguments) in cases {
        let mut child = unread(dir.path(), arguments);
        let status = tokio::task::spawn_blocking(move || child.wait()).await.unwrap();
        assert_eq!(status.unwrap().code(), Some(code), "{arguments:?}");
    }
    assert_eq!(ingest.received().len(), 4);
    assert!(dir.path().join("hooklane.toml").exists());
}

/// Goal: a service whose log nobody reads any more works on. Method: without a broker it has something to log at once.
#[tokio::test]
async fn a_service_outlives_the_reader_of_its_log() {
    let dir = with_settings();
    for service in ["ingest", "dispatcher"] {
        // Its address cannot be read from its output.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let arguments = [
            service,
            "--broker",
            "amqp://127.0.0.1:1",
            "--listen",
            &address,
            "--log-level",
            "debug",
        ];
        let mut child = unread(dir.path(), &arguments);
        hooklane_testkit::eventually("the service", DEADLINE, || async {
            tokio::net::TcpStream::connect(&address).await?;
            Ok(())
        })
        .await
        .unwrap();
        let metrics = format!("http://{address}/metrics");
        let has_failed_to_connect = || async {
            anyhow::ensure!(http_status(&metrics).await == 200);
            anyhow::ensure!(http_status(&format!("http://{address}/readyz")).await == 503);
            Ok(())
        };
        hooklane_testkit::eventually("an answer", DEADLINE, has_failed_to_connect)
            .await
            .unwrap();
        let pid = child.id().to_string();
        let kill = std::process::Command::new("kill").arg(&pid).status().unwrap();
        assert!(kill.success());
        let status = tokio::task::spawn_blocking(move || child.wait()).await.unwrap();
        assert_eq!(status.unwrap().code(), Some(0), "{service}");
    }
}
