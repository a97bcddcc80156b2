//! The operator's proxy, and the environment's, which counts for nothing.

use std::process::Command;
use std::sync::{Arc, Mutex};

use hooklane_receiver::{Options, Receiver};
use hooklane_testkit::dns::{Answer, Dns};
use hooklane_testkit::tls::Authority;
use hooklane_types::FailureKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;

use crate::raw::RawServer;
use crate::world::{World, request, trusting};

type Heads = Arc<Mutex<Vec<String>>>;

/// A proxy that connects where it is told, and keeps the heads of what it was told.
async fn proxy() -> (RawServer, Heads) {
    let heads = Heads::default();
    let kept = heads.clone();
    let server = RawServer::start(move |mut client| {
        let kept = kept.clone();
        async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = client.read_u8().await else { return };
                head.push(byte);
            }
            let head = String::from_utf8(head).unwrap();
            let target = head.split_whitespace().nth(1).unwrap().to_owned();
            kept.lock().unwrap().push(head);
            let Ok(mut upstream) = TcpStream::connect(target).await else {
                return;
            };
            if client
                .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                .await
                .is_ok()
            {
                let _ = copy_bidirectional(&mut client, &mut upstream).await;
            }
        }
    })
    .await;
    (server, heads)
}

fn through(proxy: &RawServer, dns: &Dns) -> World {
    let (url, server) = (format!("http://us%40er:s3cret@{}", proxy.address), dns.address());
    World::with(move |settings| {
        settings.proxy = Some(url.parse().unwrap());
        settings.dns_servers = vec![server];
    })
}

#[tokio::test]
async fn the_proxy_is_told_the_judged_address_and_the_endpoint_the_name() {
    // Goal: CONNECT carries an address and the proxy's credentials; Host and the certificate's name are the endpoint's.
    let (proxy, heads) = proxy().await;
    let dns = Dns::start().await.unwrap();
    dns.script("hook.example", [Answer::addresses(&["127.0.0.1"])]);
    let authority = Authority::new().unwrap();
    let tls = Some(
        authority
            .server_config(&authority.server(&["hook.example"]).unwrap())
            .unwrap(),
    );
    let secure = Receiver::start(Options {
        tls,
        ..Options::default()
    })
    .await
    .unwrap();
    let plain = Receiver::start(Options::default()).await.unwrap();
    let world = through(&proxy, &dns);
    for receiver in [&plain, &secure] {
        let mut given = request(&receiver.url_by_name("hook.example", "/hook"));
        given.tls = trusting(authority.ca_file());
        let answer = world.client.post(given).await;
        assert_eq!(answer.result.unwrap().status, 200);
        assert_eq!(answer.remote, Some(receiver.address()));
        let head = heads.lock().unwrap().pop().unwrap();
        assert!(
            head.starts_with(&format!("CONNECT {} HTTP/1.1\r\n", receiver.address())),
            "{head}"
        );
        assert!(
            head.contains("Proxy-Authorization: Basic dXNAZXI6czNjcmV0\r\n"),
            "{head}"
        );
        assert!(!head.contains("hook.example"), "{head}");
    }
    let host = format!("hook.example:{}", plain.address().port());
    assert_eq!(plain.received()[0].header("host"), Some(host.as_str()));
    assert_eq!(plain.received()[0].header("proxy-authorization"), None);
    assert_eq!(secure.received()[0].server_name.as_deref(), Some("hook.example"));
}

#[tokio::test]
async fn a_blocked_address_is_not_asked_of_the_proxy() {
    // Goal: names and literals inside never reach the proxy.
    let (proxy, heads) = proxy().await;
    let dns = Dns::start().await.unwrap();
    dns.script("inside.example", [Answer::addresses(&["10.0.0.1"])]);
    let world = through(&proxy, &dns);
    for url in ["http://inside.example/", "https://10.0.0.1/", "http://[::1]/"] {
        assert_eq!(world.kind(url).await, FailureKind::Blocked, "{url}");
    }
    assert!(heads.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_proxy_that_refuses_or_is_gone_is_a_connect_failure() {
    // Goal: each way of not getting through, none with the proxy's password in its detail.
    let dns = Dns::start().await.unwrap();
    for said in [
        b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n".as_slice(),
        b"garbage\r\n\r\n",
        b"",
        b"HTTP/1.1 2",
    ] {
        let proxy = RawServer::saying(said).await;
        let failure = through(&proxy, &dns)
            .failure(request("http://127.0.0.1:9/"))
            .await;
        assert_eq!(failure.kind, FailureKind::Connect, "{}", failure.detail);
        assert!(!failure.detail.contains("s3cret"), "{}", failure.detail);
    }
    let gone = RawServer::saying(b"").await;
    let world = through(&gone, &dns);
    drop(gone);
    assert_eq!(world.kind("http://127.0.0.1:9/").await, FailureKind::Connect);
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_of_the_environment_are_ignored() {
    // Goal: a child process with every proxy variable set posts to the endpoint directly. The child is another test of
    // this binary; the trap that the variables name sees no connection.
    let (trap, heads) = proxy().await;
    let trapped = format!("http://{}", trap.address);
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "outcomes::an_answer_is_its_status"]);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        child.env(name, &trapped).env(name.to_lowercase(), &trapped);
    }
    let output = tokio::task::spawn_blocking(move || child.output())
        .await
        .unwrap()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    assert!(heads.lock().unwrap().is_empty());
}
