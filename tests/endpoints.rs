//! What the settings of one endpoint say, as its receiver sees it: TLS, HTTP/2, authentication, headers, filters, budgets.

mod stage;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hooklane_receiver::{Options, Protocol, Receiver, Reply};
use hooklane_testkit::dns::{Answer, Dns};
use hooklane_testkit::tls::Authority;
use stage::{On, SECRET, SOON, Stage, on_both};

on_both!(
    an_endpoint_is_reached_by_http_2_and_tls_with_certificate_headers_and_credentials,
    an_endpoint_gets_only_its_event_types_and_channels,
    retries_never_take_the_room_of_first_attempts,
    attempts_at_once_are_bounded_in_all_and_per_endpoint,
);

/// An endpoint of `acme` at any URL.
fn endpoint(id: &str, url: &str, more: &str) -> String {
    format!(
        "[[endpoint]]\nid = \"{id}\"\napplication = \"acme\"\nurl = \"{url}\"\nsecret = \"{SECRET}\"\n{more}\n"
    )
}

async fn an_endpoint_is_reached_by_http_2_and_tls_with_certificate_headers_and_credentials(
    on: On,
) -> Result<()> {
    // Goal: a private authority, a client certificate, custom headers and basic auth over HTTP/2; bearer auth over HTTP/1.1; each with its
    // connections reused. Method: two receivers that speak one version each, 20 events.
    let stage = Stage::on(on).await?;
    let authority = Authority::new()?;
    let identity = authority.server(&["127.0.0.1"])?;
    let client = authority.client("hooklane")?;
    let start = |protocol, tls| {
        Receiver::start(Options {
            tls: Some(tls),
            protocol,
            ..Options::default()
        })
    };
    let mutual = start(Protocol::Http2, authority.mutual_server_config(&identity)?).await?;
    let plain = start(Protocol::Http1, authority.server_config(&identity)?).await?;
    let ca = format!("ca_file = {:?}\nmax_in_flight = 1\n", authority.ca_file());
    let certificate = format!(
        "client_certificate = {:?}\nclient_key = {:?}\n",
        client.certificate_file(),
        client.key_file()
    );
    let basic = "basic_auth = { username = \"us er\", password = \"p:w\" }\nheaders = { X-Source = \"hooklane\", x-two = \"2\" }\n";
    let endpoints = endpoint(
        "ep_mutual",
        &mutual.url("/hook"),
        &format!("{ca}{certificate}{basic}"),
    ) + &endpoint(
        "ep_bearer",
        &plain.url("/hook"),
        &format!("{ca}bearer_token = \"t0ken\"\n"),
    ) + &endpoint("ep_stranger", &mutual.url("/none"), &format!("{ca}retry = []\n"));
    stage.settings("[egress]\nallow = [\"127.0.0.0/8\"]\n", &endpoints)?;
    let ingest = stage.ingest().await?;
    let dispatcher = stage.dispatcher().await?;
    for _ in 0..20 {
        ingest.publish(&stage.http, "a", "{}").await?;
    }
    mutual.wait_for_at("/hook", 20, SOON * 2).await?;
    plain.wait_for_at("/hook", 20, SOON * 2).await?;
    for request in mutual.received() {
        assert_eq!(request.http_version, http::Version::HTTP_2);
        assert!(request.client_certificate.is_some());
        assert_eq!(request.header("authorization"), Some("Basic dXMgZXI6cDp3"));
        assert_eq!(
            (request.header("x-source"), request.header("x-two")),
            (Some("hooklane"), Some("2"))
        );
    }
    for request in plain.received() {
        assert_eq!(request.http_version, http::Version::HTTP_11);
        assert_eq!(request.header("authorization"), Some("Bearer t0ken"));
        assert_eq!(request.header("x-source"), None);
    }
    // Who has no certificate is not let in, and its deliveries say why.
    stage.wait_depth("dead", SOON, |depth| depth > 0).await?;
    let dead = stage.run(&["dead", "list", "--endpoint", "ep_stranger"]).await?;
    ensure!(dead.contains("ep_stranger"), "{dead}");
    ensure!(mutual.look(|log| log.count_at("/none")) == 0);
    ensure!(
        plain.connections_opened() <= 2,
        "{} connections for 20 posts",
        plain.connections_opened()
    );
    let full = dispatcher
        .metric(&stage.http, "hooklane_tls_handshakes_total", "")
        .await?;
    ensure!(full >= 2.0, "{full} handshakes");
    Ok(())
}

#[tokio::test]
async fn caches_keep_within_the_bounds_that_are_set_and_show_it() -> Result<()> {
    // Goal: DNS answers, TLS sessions and idle connections each have a bound and a metric. Method: six names, bounds of two.
    let stage = Stage::new().await?;
    let (dns, authority) = (Dns::start().await?, Authority::new()?);
    let names: Vec<String> = (0..6).map(|n| format!("r{n}.example")).collect();
    let identity = authority.server(&names.iter().map(String::as_str).collect::<Vec<_>>())?;
    let tls = Some(authority.server_config(&identity)?);
    let receiver = Receiver::start(Options {
        tls,
        ..Options::default()
    })
    .await?;
    let mut endpoints = String::new();
    for (n, name) in names.iter().enumerate() {
        dns.script(name, [Answer::addresses(&["127.0.0.1"])]);
        let more = format!("ca_file = {:?}\n", authority.ca_file());
        endpoints += &endpoint(&format!("ep_{n}"), &receiver.url_by_name(name, "/hook"), &more);
    }
    let sections = format!(
        "[egress]\nallow = [\"127.0.0.0/8\"]\ndns = [\"{}\"]\ndns_entries_max = 2\ntls_sessions_max = 2\nconnections_idle_max = 2\n",
        dns.address()
    );
    stage.settings(&sections, &endpoints)?;
    let ingest = stage.ingest().await?;
    let dispatcher = stage.dispatcher().await?;
    for round in 1..=3 {
        ingest.publish(&stage.http, "a", "{}").await?;
        receiver.wait_for(6 * round, SOON).await?;
    }
    stage.wait_empty("events", SOON).await?;
    let metric = async |name: &str| dispatcher.metric(&stage.http, name, "").await;
    for name in ["hooklane_dns_entries", "hooklane_tls_sessions_entries"] {
        let entries = metric(name).await?;
        ensure!((1.0..=2.0).contains(&entries), "{name} is {entries}");
    }
    for name in [
        "hooklane_dns_lookups_total",
        "hooklane_tls_handshakes_total",
        "hooklane_http_connections_opened_total",
    ] {
        let count = metric(name).await?;
        ensure!(count >= 6.0, "{name} is {count}");
    }
    hooklane_testkit::eventually("connections beyond the bound to be closed", SOON, || async {
        let open = dispatcher
            .metric(&stage.http, "hooklane_http_connections_open", "")
            .await?;
        ensure!(open <= 2.0, "{open} connections are open");
        Ok(())
    })
    .await
}

async fn an_endpoint_gets_only_its_event_types_and_channels(on: On) -> Result<()> {
    // Goal: exact types, a prefix at any depth but not its own stem, all; channels. Method: every type to every endpoint, then compare.
    let stage = Stage::on(on).await?;
    let endpoints = stage.endpoint("ep_exact", "/exact", "event_types = [\"invoice.paid\"]")
        + &stage.endpoint("ep_prefix", "/prefix", "event_types = [\"invoice.*\"]")
        + &stage.endpoint("ep_eu", "/eu", "channels = [\"eu\", \"uk\"]")
        + &stage.endpoint("ep_all", "/all", "event_types = [\"*\"]");
    stage.settings("", &endpoints)?;
    let ingest = stage.ingest().await?;
    let _dispatcher = stage.dispatcher().await?;
    for (event_type, channels) in [
        ("invoice.paid", "[]"),
        ("invoice.paid.late", "[\"eu\"]"),
        ("invoice", "[\"us\"]"),
        ("invoices.paid", "[\"us\", \"uk\"]"),
    ] {
        let channels = if channels == "[]" {
            String::new()
        } else {
            format!(",\"channels\":{channels}")
        };
        let body =
            format!("{{\"eventType\":\"{event_type}\",\"payload\":{{\"t\":\"{event_type}\"}}{channels}}}");
        let (status, answer) = ingest.post(&stage.http, "acme", body).await?;
        ensure!(status == 202, "{answer}");
    }
    stage.receiver.wait_for(9, SOON).await?;
    stage.wait_empty("events", SOON).await?;
    let got = |path: &str| -> Result<Vec<String>> {
        let bodies = stage.receiver.received_at(path);
        let mut types = bodies
            .iter()
            .map(|request| {
                let body: serde_json::Value = serde_json::from_slice(&request.body)?;
                Ok(body["t"].as_str().context("a type")?.to_owned())
            })
            .collect::<Result<Vec<_>>>()?;
        types.sort();
        Ok(types)
    };
    assert_eq!(got("/exact")?, ["invoice.paid"]);
    assert_eq!(got("/prefix")?, ["invoice.paid", "invoice.paid.late"]);
    assert_eq!(got("/eu")?, ["invoice.paid.late", "invoices.paid"]);
    assert_eq!(got("/all")?.len(), 4);
    Ok(())
}

async fn retries_never_take_the_room_of_first_attempts(on: On) -> Result<()> {
    // Goal: separate budgets. Method: four retries hang and fill the retries' budget of four; a hundred first attempts pass them by.
    let stage = Stage::on(on).await?;
    let slow: String = (0..4)
        .map(|n| {
            let more = "event_types = [\"bad\"]\ntimeout = \"1m\"\nretry = [\"100ms\"]";
            stage.endpoint(&format!("ep_{n}"), &format!("/slow{n}"), more)
        })
        .collect();
    let well = stage.endpoint("ep_well", "/well", "event_types = [\"good\"]");
    stage.settings("[dispatcher]\nretries_in_flight_max = 4\n", &(slow + &well))?;
    for n in 0..4 {
        stage
            .receiver
            .script(&format!("/slow{n}"), [Reply::status(500), Reply::hang()]);
    }
    let ingest = stage.ingest().await?;
    let _dispatcher = stage.dispatcher().await?;
    ingest.publish(&stage.http, "bad", "{}").await?;
    stage.receiver.wait_for(8, SOON).await?;
    for _ in 0..100 {
        ingest.publish(&stage.http, "good", "{}").await?;
    }
    stage
        .receiver
        .wait_for_at("/well", 100, Duration::from_secs(20))
        .await?;
    ensure!(stage.receiver.in_flight() >= 4, "the retries ended meanwhile");
    Ok(())
}

async fn attempts_at_once_are_bounded_in_all_and_per_endpoint(on: On) -> Result<()> {
    // Goal: five at once in the process, two at one endpoint, and all arrive. Method: slow answers, 60 events each, the receivers' peaks.
    let slow = || Reply::ok().after(Duration::from_millis(100));
    for (more, peak_max) in [("max_in_flight = 100", 5), ("max_in_flight = 2", 2)] {
        let stage = Stage::on(on).await?;
        stage.settings(
            "[dispatcher]\nin_flight_max = 5\nretries_in_flight_max = 5\n",
            &stage.endpoint("ep_hook", "/hook", more),
        )?;
        stage.receiver.script("/hook", [slow()]);
        let ingest = stage.ingest().await?;
        for _ in 0..60 {
            ingest.publish(&stage.http, "a", "{}").await?;
        }
        let _dispatcher = stage.dispatcher().await?;
        stage.receiver.wait_for(60, SOON * 2).await?;
        let peak = stage.receiver.in_flight_peak();
        // One of five may be on its way to its ack at any time.
        ensure!((2..=peak_max).contains(&peak), "{more}: {peak} at once");
    }
    Ok(())
}
