//! The scripted DNS server, asked by hickory's resolver.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hooklane_testkit::dns::{Answer, Dns, RecordType};

/// How long the resolver waits for an answer, and how often it asks.
const TIMEOUT: Duration = Duration::from_millis(400);

fn resolver(dns: &Dns) -> Result<TokioResolver> {
    let mut connection = ConnectionConfig::udp();
    connection.port = dns.address().port();
    let server = NameServerConfig::new(dns.address().ip(), true, vec![connection]);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut options = ResolverOpts::default();
    options.timeout = TIMEOUT;
    options.attempts = 1;
    options.cache_size = 0;
    Ok(
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()?,
    )
}

async fn addresses(resolver: &TokioResolver, name: &str) -> Result<Vec<IpAddr>> {
    let mut found: Vec<IpAddr> = resolver.lookup_ip(name).await?.iter().collect();
    found.sort();
    Ok(found)
}

#[tokio::test]
async fn answers_in_turn_and_repeats_the_last() -> Result<()> {
    // Goal: a name that is public first and private afterwards, as in rebinding.
    let dns = Dns::start().await?;
    dns.script(
        "hook.test",
        [
            Answer::addresses(&["203.0.113.7"]),
            Answer::addresses(&["127.0.0.1"]),
        ],
    );
    let resolver = resolver(&dns)?;
    for expected in ["203.0.113.7", "127.0.0.1", "127.0.0.1"] {
        ensure!(addresses(&resolver, "HOOK.test.").await? == [expected.parse::<IpAddr>()?]);
    }
    ensure!(
        dns.queries_of("hook.test", RecordType::A) == 3,
        "{} queries",
        dns.queries("hook.test")
    );
    Ok(())
}

#[tokio::test]
async fn serves_both_families() -> Result<()> {
    // Goal: A and AAAA come from one script.
    let dns = Dns::start().await?;
    dns.script(
        "both.test",
        [Answer::addresses(&["192.0.2.1", "2001:db8::1", "192.0.2.2"]).ttl_s(60)],
    );
    let resolver = resolver(&dns)?;
    let v4 = resolver.ipv4_lookup("both.test.").await?;
    let v6 = resolver.ipv6_lookup("both.test.").await?;
    ensure!(v4.answers().len() == 2, "{v4:?}");
    ensure!(v6.answers().len() == 1, "{v6:?}");
    ensure!(v4.answers()[0].ttl == 60);
    ensure!(dns.queries_of("both.test", RecordType::Aaaa) == 1);
    Ok(())
}

#[tokio::test]
async fn fails_in_each_scripted_way() -> Result<()> {
    // Goal: no such name, server failure and silence are told apart by a resolver.
    let dns = Dns::start().await?;
    dns.script("broken.test", [Answer::ServerFailure]);
    dns.script("silent.test", [Answer::Silence]);
    let resolver = resolver(&dns)?;
    let missing = resolver.ipv4_lookup("missing.test.").await;
    ensure!(
        missing.as_ref().is_err_and(|error| error.is_nx_domain()),
        "{missing:?}"
    );
    let broken = resolver.ipv4_lookup("broken.test.").await;
    ensure!(format!("{broken:?}").contains("ServFail"), "{broken:?}");
    let begun = Instant::now();
    let silent = resolver.ipv4_lookup("silent.test.").await;
    ensure!(
        silent.is_err() && begun.elapsed() >= TIMEOUT,
        "{silent:?} after {:?}",
        begun.elapsed()
    );
    ensure!(dns.queries("silent.test") >= 1);
    Ok(())
}
