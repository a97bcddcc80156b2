//! The files of deploy/ and docker-compose.yml, tried as far as a machine without containers can: the tools that check them, and
//! their containers' commands with their environment and files, on loopback against a real RabbitMQ.

mod deployed;
mod stage;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use deployed::{Container, Site, compose, documents, named, root, secrets_of, text};
use hooklane_receiver::{Options, Receiver, Verdict};
use hooklane_signing::{HeaderFamily, Scheme, Secret, Verifier};
use hooklane_telemetry::{Kind, Metric};
use hooklane_testkit::process::Spawn;
use hooklane_testkit::python;
use hooklane_testkit::rabbitmq::{Rights, Vhost, shared};
use serde_json::Value;
use stage::SOON;

const ALERTS: &str = "deploy/prometheus/alerts.yml";
const DASHBOARD: &str = "deploy/grafana/hooklane.json";
const OPERATIONS: &str = "docs/OPERATIONS.md";
const MANIFESTS: [&str; 6] = ["config", "secrets", "topology", "control", "ingest", "dispatcher"];

async fn manifest(name: &str) -> Result<Vec<Value>> {
    documents(&text(&format!("deploy/kubernetes/{name}.yaml"))?).await
}

/// For HTTP requests of the tests. Another test of the process may have installed the provider first.
fn client() -> Result<reqwest::Client> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(reqwest::Client::builder().no_proxy().build()?)
}

#[tokio::test]
async fn the_compose_files_services_deliver_an_event() -> Result<()> {
    // Goal: `docker compose up` and the curl of the file's head. Method: each hooklane service's command, environment and mounted file as
    // `docker-compose config` resolves them, with names and addresses of the network put on loopback.
    let file = compose().await?;
    let services = &file["services"];
    let mut containers: Vec<Container> = Vec::new();
    for (name, service) in services.as_object().context("services")? {
        if service["image"] == "hooklane" {
            containers.push(Container::of_service(name, service)?);
        }
    }
    let names: Vec<&str> = containers.iter().map(|one| one.name.as_str()).collect();
    ensure!(
        names == ["control", "dispatcher-1", "dispatcher-2", "ingest", "receiver"],
        "{names:?}"
    );
    let vhost = shared().await?.vhost().await?;
    let rabbitmq = &services["rabbitmq"]["environment"];
    let account = |key: &str| rabbitmq[key].as_str().context(key.to_owned());
    let broker = format!(
        "amqp://{}:{}@rabbitmq:5672/%2f",
        account("RABBITMQ_DEFAULT_USER")?,
        account("RABBITMQ_DEFAULT_PASS")?
    );
    let subnet = file["networks"]["inside"]["ipam"]["config"][0]["subnet"].as_str();
    let mut site = Site::new()?;
    site.replace(&broker, vhost.url());
    let control = &services["control"]["environment"];
    let database = hooklane_testkit::postgres::shared().await?.database().await?;
    site.replace(
        control["HOOKLANE_STORE__URL"].as_str().context("a store")?,
        database.url(),
    );
    site.replace(subnet.context("a subnet")?, "127.0.0.0/8");
    for one in &containers {
        site.lease(one)?;
    }
    let mut processes = Vec::new();
    for one in &containers {
        processes.push((one.name.clone(), site.start(one)?));
    }
    for (_, process) in &processes {
        process.wait_for_line("listening on http", SOON).await?;
    }
    let http = client()?;
    let ingest = &site.address("ingest:8071")?;
    site.is_up(&http, ingest, "/readyz").await?;
    let managed = &site.address("control:8074")?;
    site.is_up(&http, managed, "/readyz").await?;
    let jwt_secret = control["HOOKLANE_API__JWT_SECRET"].as_str().context("a secret")?;
    let token = Spawn::program(env!("CARGO_BIN_EXE_hooklane")).arg("token");
    let token = token
        .env("HOOKLANE_API__JWT_SECRET", jwt_secret)
        .run_ok(SOON)
        .await?;
    let answer = http
        .post(format!("http://{managed}/api/v1/app"))
        .bearer_auth(token.trim())
        .header("content-type", "application/json")
        .body(r#"{"name": "trial"}"#)
        .send()
        .await?;
    ensure!(answer.status() == 201, "{}", answer.text().await?);
    let token = services["ingest"]["environment"]["HOOKLANE_INGEST__TOKEN"]
        .as_str()
        .context("a token")?;
    let answer = http
        .post(format!("http://{ingest}/api/v1/app/acme/msg"))
        .bearer_auth(token)
        .header("content-type", "application/json")
        .body(r#"{"eventType": "invoice.paid", "payload": {"n": 1}}"#)
        .send()
        .await?;
    ensure!(answer.status() == 202, "{}", answer.text().await?);
    let (_, receiver) = processes
        .iter()
        .find(|(name, _)| name == "receiver")
        .context("one")?;
    receiver
        .wait_for_line("8 bytes, signature valid, answered 204", SOON)
        .await?;

    // What Prometheus scrapes is there, under the names and ports of its configuration.
    let scraped = documents(&text("deploy/prometheus/prometheus.yml")?)
        .await?
        .remove(0);
    let mut targets = 0;
    for job in scraped["scrape_configs"].as_array().context("jobs")? {
        for target in job["static_configs"][0]["targets"]
            .as_array()
            .context("targets")?
        {
            let address = site.address(target.as_str().context("a target")?)?;
            let shown = http
                .get(format!("http://{address}/metrics"))
                .send()
                .await?
                .text()
                .await?;
            ensure!(shown.contains("hooklane_broker_connected"), "{target}: {shown}");
            targets += 1;
        }
    }
    ensure!(targets == 4, "{targets} targets");
    for (name, process) in &processes {
        process.terminate()?;
        let grace = services[name.as_str()]["stop_grace_period"]
            .as_str()
            .unwrap_or("10s");
        let status = process.wait(humantime::parse_duration(grace)?).await?;
        ensure!(status.success(), "{name}: {status}");
    }
    Ok(())
}

#[tokio::test]
async fn composes_stop_periods_are_longer_than_the_graces() -> Result<()> {
    // Goal: no container is killed while it finishes its work. The graces are the defaults: 25 s and 10 s.
    let file = compose().await?;
    for (service, least) in [
        ("dispatcher-1", 30),
        ("dispatcher-2", 30),
        ("ingest", 15),
        ("control", 15),
    ] {
        let period = file["services"][service]["stop_grace_period"].as_str();
        let period = humantime::parse_duration(period.context(service)?)?;
        ensure!(period >= Duration::from_secs(least), "{service}: {period:?}");
    }
    Ok(())
}

/// An account with the rights that `hooklane topology` prints for a role.
async fn least_account(vhost: &Vhost, printed: &Value, role: &str) -> Result<String> {
    let rights = &printed["rights"][role];
    let right = |name: &str| rights[name].as_str().with_context(|| format!("{name} of {role}"));
    let rights = Rights {
        configure: right("configure")?,
        write: right("write")?,
        read: right("read")?,
    };
    Ok(vhost.user(role, rights).await?.url)
}

/// Looks at the depth of the queues as KEDA's scaler does, and tries what it may not.
const SCALER: &str = r#"
import os, pika
c = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
for queue in os.environ["QUEUES"].split(","):
    print(queue, c.channel().queue_declare(queue, passive=True).method.message_count)
for attempt in (lambda ch: ch.queue_purge("hooklane.dead"), lambda ch: ch.queue_delete("hooklane.events")):
    try:
        attempt(c.channel())
        raise SystemExit("it may more than it must")
    except pika.exceptions.ChannelClosedByBroker as error:
        assert error.reply_code == 403, error
print("looked")
"#;

#[tokio::test]
async fn the_kubernetes_pods_deliver_with_the_least_rights() -> Result<()> {
    // Goal: the Job declares, then both Deployments work, each with its own Secret's account and no more rights than its role's; the
    // probes answer. Method: args, environment and mounted files of the manifests as processes on loopback.
    let vhost = shared().await?.vhost().await?;
    let receiver = Receiver::start(Options::default()).await?;
    let (config, secrets) = (manifest("config").await?, manifest("secrets").await?);
    let topology = Spawn::program(env!("CARGO_BIN_EXE_hooklane")).args(["topology", "--format", "json"]);
    let printed: Value = serde_json::from_str(&topology.run_ok(SOON).await?)?;
    let mut site = Site::new()?;
    site.replace("https://receiver.example.com/hook", &receiver.url("/hook"));
    let database = hooklane_testkit::postgres::shared().await?.database().await?;
    for role in ["control", "ingest", "dispatcher"] {
        let url = named(&secrets, &format!("hooklane-{role}"))?["stringData"]["store-url"].as_str();
        let url = url.context("a store-url")?;
        ensure!(url.starts_with(&format!("postgres://{role}:")), "{url}");
        site.replace(url, database.url());
    }
    for (secret, role) in [
        ("declarer", "declarer"),
        ("control", "operator"),
        ("ingest", "ingest"),
        ("dispatcher", "dispatcher"),
    ] {
        let url = named(&secrets, &format!("hooklane-{secret}"))?["stringData"]["broker-url"].as_str();
        let url = url.context("a broker-url")?;
        ensure!(
            url.starts_with(&format!("amqp://{role}:")),
            "{url} is not the account of {role}"
        );
        site.replace(url, &least_account(&vhost, &printed, role).await?);
    }
    let secret = named(&secrets, "hooklane-endpoints")?["stringData"]["orders"].as_str();
    let secret = Secret::parse(secret.context("the endpoint's secret")?)?;
    let scheme = Scheme::Standard(HeaderFamily::Webhook);
    receiver.verify_default(Verifier::new(scheme, vec![secret])?);

    let job = manifest("topology").await?.remove(0);
    ensure!(secrets_of(&job["spec"]["template"]) == BTreeSet::from(["hooklane-declarer".to_owned()]));
    let job = Container::of_pod(&job["spec"]["template"], &secrets, &config)?;
    site.spawn(&job)?.run_ok(SOON).await?;
    let http = client()?;
    let mut processes = Vec::new();
    for role in ["control", "ingest", "dispatcher"] {
        let documents = manifest(role).await?;
        let pod = &named(&documents, &format!("hooklane-{role}"))?["spec"]["template"];
        let own = |name: &String| {
            *name == format!("hooklane-{role}") || (role == "dispatcher" && name == "hooklane-endpoints")
        };
        let read = secrets_of(pod);
        ensure!(!read.is_empty() && read.iter().all(own), "{role} reads {read:?}");
        let mut container = Container::of_pod(pod, &secrets, &config)?;
        container.set("HOOKLANE_EGRESS__HTTPS_ONLY", "false");
        container.set("HOOKLANE_EGRESS__ALLOW", "127.0.0.0/8");
        site.lease(&container)?;
        processes.push(site.start(&container)?);
        let declared = &pod["spec"]["containers"][0];
        let port = &declared["ports"][0]["containerPort"];
        let address = site.address(&format!("{role}:{port}"))?;
        for probe in ["livenessProbe", "readinessProbe"] {
            let get = &declared[probe]["httpGet"];
            ensure!(get["port"] == declared["ports"][0]["name"], "{get}");
            site.is_up(&http, &address, get["path"].as_str().context("a path")?)
                .await?;
        }
    }
    let token = named(&secrets, "hooklane-ingest")?["stringData"]["token"]
        .as_str()
        .context("a token")?;
    let answer = http
        .post(format!(
            "http://{}/api/v1/app/acme/msg",
            site.address("ingest:8071")?
        ))
        .bearer_auth(token)
        .header("content-type", "application/json")
        .body(r#"{"eventType": "a.b", "payload": {}}"#)
        .send()
        .await?;
    ensure!(answer.status() == 202, "{}", answer.text().await?);
    receiver.wait_for(1, SOON).await?;
    ensure!(receiver.received()[0].verdict == Some(Verdict::Valid));

    let scaling = manifest("autoscaling").await?;
    let triggers = named(&scaling, "hooklane-dispatcher")?["spec"]["triggers"]
        .as_array()
        .context("triggers")?;
    let queues: Vec<&str> = triggers
        .iter()
        .filter_map(|one| one["metadata"]["queueName"].as_str())
        .collect();
    let read = format!("^({})$", queues.join("|").replace('.', "\\."));
    let rights = Rights {
        configure: "^$",
        write: "^$",
        read: &read,
    };
    let scaler = vhost.user("scaler", rights).await?;
    let said = python::code(SCALER)?
        .env("AMQP_URL", &scaler.url)
        .env("QUEUES", queues.join(","))
        .run_ok(SOON)
        .await?;
    ensure!(said.contains("looked"), "{said}");
    for process in &processes {
        process.terminate()?;
        ensure!(process.wait(SOON).await?.success());
    }
    Ok(())
}

#[tokio::test]
async fn the_manifests_are_valid_and_their_graces_long_enough() -> Result<()> {
    // Goal: a schema validator accepts each resource strictly; the pods outlive their drain; selectors find the pods.
    let files = MANIFESTS.map(|name| format!("deploy/kubernetes/{name}.yaml"));
    let validated = python::tool("kubernetes-validate")?
        .arg("--strict")
        .args(&files)
        .cwd(root())
        .run(SOON)
        .await?;
    ensure!(
        validated.status.success(),
        "{}{}",
        validated.stdout,
        validated.stderr
    );
    let passed = (validated.stdout + &validated.stderr)
        .matches(" passed for ")
        .count();
    ensure!(passed == 16, "{passed} resources passed");
    let settings = named(&manifest("config").await?, "hooklane")?["data"]["hooklane.toml"].clone();
    let settings: toml_edit::DocumentMut = settings.as_str().context("settings")?.parse()?;
    for (role, section) in [
        ("control", "ingest"),
        ("ingest", "ingest"),
        ("dispatcher", "dispatcher"),
    ] {
        let documents = manifest(role).await?;
        let deployment = named(&documents, &format!("hooklane-{role}"))?;
        let pod = &deployment["spec"]["template"];
        let grace = settings[section]["grace"].as_str().context("a grace")?;
        let drain = humantime::parse_duration(grace)?.as_secs();
        let before = pod["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64();
        let period = pod["spec"]["terminationGracePeriodSeconds"].as_u64();
        ensure!(
            period.context("a period")? >= drain + before.unwrap_or(0) + 10,
            "{role}"
        );
        for document in &documents {
            let selector = match document["kind"].as_str() {
                Some("Service") => &document["spec"]["selector"],
                _ => &document["spec"]["selector"]["matchLabels"],
            };
            ensure!(*selector == pod["metadata"]["labels"], "{document}");
        }
        ensure!(
            documents
                .iter()
                .any(|document| document["kind"] == "PodDisruptionBudget"),
            "{role}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn dispatchers_are_scaled_by_the_depth_of_queues_that_exist() -> Result<()> {
    // Goal: the ScaledObject names the Deployment, a Secret's key and queues of the topology, in the fields of KEDA's schema (which the
    // schema validator above does not hold). Its metadata values are texts.
    let documents = manifest("autoscaling").await?;
    let scaled = &named(&documents, "hooklane-dispatcher")?["spec"];
    let fields: BTreeSet<&str> = scaled
        .as_object()
        .context("fields")?
        .keys()
        .map(String::as_str)
        .collect();
    let known = BTreeSet::from([
        "scaleTargetRef",
        "minReplicaCount",
        "maxReplicaCount",
        "pollingInterval",
        "cooldownPeriod",
        "advanced",
        "triggers",
    ]);
    ensure!(fields.is_subset(&known), "{fields:?}");
    named(
        &manifest("dispatcher").await?,
        scaled["scaleTargetRef"]["name"].as_str().context("a name")?,
    )?;
    let authentication = &named(&documents, "hooklane-scaler")?["spec"]["secretTargetRef"][0];
    ensure!(authentication["parameter"] == "host");
    let secrets = manifest("secrets").await?;
    let secret = named(&secrets, authentication["name"].as_str().context("a name")?)?;
    ensure!(
        secret["stringData"][authentication["key"].as_str().context("a key")?].is_string(),
        "{authentication}"
    );
    let topology = Spawn::program(env!("CARGO_BIN_EXE_hooklane")).arg("topology");
    let topology = topology.run_ok(SOON).await?;
    let triggers = scaled["triggers"].as_array().context("triggers")?;
    ensure!(triggers.len() == 2);
    for trigger in triggers {
        ensure!(trigger["authenticationRef"]["name"] == "hooklane-scaler");
        let metadata = trigger["metadata"].as_object().context("metadata")?;
        ensure!(metadata.values().all(Value::is_string), "{metadata:?}");
        let queue = metadata["queueName"].as_str().context("a queue")?;
        ensure!(
            topology.contains(&format!("\n  {queue}  x-")) || topology.contains(&format!("\n  {queue} ")),
            "{queue} is not declared"
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_dockerfile_is_clean_and_its_parts_are_there() -> Result<()> {
    // Goal: hadolint finds nothing; what is copied is a workspace that cargo accepts; the compiler is the workspace's; the base has every
    // library that the binary asks for.
    let hadolint = python::tool("hadolint")?.arg("deploy/Dockerfile").cwd(root());
    hadolint.run_ok(SOON).await?;
    let dockerfile = text("deploy/Dockerfile")?;
    let (ignored, manifest) = (text(".dockerignore")?, text("Cargo.toml")?);
    let wanted = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "));
    let wanted = wanted.context("a rust-version")?.trim_matches('"');
    ensure!(
        dockerfile.contains(&format!("\nFROM rust:{wanted}-bookworm ")),
        "not Rust {wanted}"
    );
    ensure!(dockerfile.contains("\nUSER 65532:65532\n"));

    let tree = tempfile::tempdir()?;
    let copied = dockerfile.lines().filter_map(|line| line.strip_prefix("COPY "));
    for line in copied.filter(|line| !line.starts_with("--")) {
        let mut names: Vec<&str> = line.split(' ').collect();
        names.pop();
        for name in names {
            ensure!(
                ignored.lines().any(|line| line == format!("!{name}")),
                "{name} is ignored"
            );
            std::os::unix::fs::symlink(root().join(name), tree.path().join(name))?;
        }
    }
    Spawn::program("cargo")
        .args([
            "metadata",
            "--offline",
            "--locked",
            "--no-deps",
            "--format-version",
            "1",
        ])
        .cwd(tree.path())
        .run_ok(SOON)
        .await?;

    let linked = Spawn::program("readelf").args(["--dynamic", env!("CARGO_BIN_EXE_hooklane")]);
    let linked = linked.run_ok(SOON).await?;
    let needed: Vec<&str> = linked
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .filter_map(|line| line.split(['[', ']']).nth(1))
        .collect();
    ensure!(needed.contains(&"libc.so.6"), "{linked}");
    // What gcr.io/distroless/cc-debian12 brings: libc6, libgcc-s1.
    let foreign: Vec<_> = needed
        .iter()
        .filter(|name| !["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2"].contains(name))
        .collect();
    ensure!(foreign.is_empty(), "{foreign:?}");
    Ok(())
}

#[tokio::test]
async fn each_alert_fires_when_it_should_and_else_not() -> Result<()> {
    // Goal: Prometheus' own tool runs the rules over series of a healthy installation and of each trouble.
    for arguments in [
        ["check", "config", "deploy/prometheus/prometheus.yml"],
        ["check", "rules", ALERTS],
        ["test", "rules", "deploy/prometheus/alerts_test.yml"],
    ] {
        let promtool = Spawn::program("promtool").args(arguments).cwd(root());
        promtool.run_ok(SOON).await?;
    }
    // Each is tried both ways, and explained.
    let (tests, explained) = (text("deploy/prometheus/alerts_test.yml")?, text(OPERATIONS)?);
    for rule in rules().await? {
        let name = rule["alert"].as_str().context("a name")?;
        let fires = format!("alertname: {name}\n        exp_alerts:");
        ensure!(tests.contains(&fires), "{name} is never seen to fire");
        ensure!(
            tests.contains(&format!("alertname: {name} }}")),
            "{name} is never seen to be silent"
        );
        ensure!(
            explained.contains(&format!("\n### {name}\n")),
            "{OPERATIONS} does not say what to do for {name}"
        );
        let anchor = format!("{OPERATIONS}#{}", name.to_lowercase());
        ensure!(rule["annotations"]["runbook"] == *anchor, "{name}");
    }
    Ok(())
}

async fn rules() -> Result<Vec<Value>> {
    let file = documents(&text(ALERTS)?).await?.remove(0);
    let rules = file["groups"][0]["rules"].as_array();
    Ok(rules.context("rules")?.clone())
}

/// The expressions of the dashboard, with Grafana's variable filled in.
fn dashboard() -> Result<Vec<String>> {
    let dashboard: Value = serde_json::from_str(&text(DASHBOARD)?)?;
    let panels = dashboard["panels"].as_array().context("panels")?;
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    let expressions = targets.map(|target| target["expr"].as_str().context("an expression"));
    expressions
        .map(|one| Ok(one?.replace("$__rate_interval", "5m")))
        .collect()
}

/// The metrics that a text names; a distribution may stand with the endings of its series.
fn metrics(text: &str) -> Result<Vec<Metric>> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let names: BTreeSet<&str> = words.filter(|word| word.starts_with("hooklane_")).collect();
    let find = |name: &&str| {
        let is_it = |metric: &&Metric| {
            let of_series = ["_bucket", "_count", "_sum"];
            match metric.kind() {
                Kind::Seconds => of_series
                    .iter()
                    .any(|ending| name.strip_suffix(ending) == Some(metric.name())),
                Kind::Counter | Kind::Gauge => *name == metric.name(),
            }
        };
        let found = Metric::ALL.iter().find(is_it).copied();
        found.with_context(|| format!("there is no metric {name}"))
    };
    names.iter().map(find).collect()
}

/// The labels that an expression groups by or selects by.
fn labels(expression: &str) -> BTreeSet<String> {
    let inside = |open: &str, close: char| -> Vec<String> {
        let parts = expression.split(open).skip(1);
        parts
            .filter_map(|part| part.split(close).next())
            .flat_map(|list| list.split(','))
            .map(|one| {
                let name = one.split(['=', '!']).next().unwrap_or_default();
                name.trim().to_owned()
            })
            .collect()
    };
    let mut all: BTreeSet<String> = inside("by (", ')').into_iter().collect();
    all.extend(inside("on (", ')'));
    all.extend(inside("{", '}'));
    all
}

#[tokio::test]
async fn alerts_and_dashboard_name_metrics_and_labels_that_exist() -> Result<()> {
    // Goal: no alert that can never fire, no empty panel. Method: each expression against the enum of metrics, and the dashboard's
    // expressions, as rules, through Prometheus' parser.
    let dashboard = dashboard()?;
    ensure!(dashboard.len() > 20, "{} expressions", dashboard.len());
    let mut expressions = dashboard.clone();
    for rule in rules().await? {
        expressions.push(rule["expr"].as_str().context("an expression")?.to_owned());
    }
    for expression in &expressions {
        let metrics = metrics(expression).with_context(|| expression.clone())?;
        ensure!(!metrics.is_empty(), "{expression} names no metric");
        let mut known: BTreeSet<&str> = BTreeSet::from(["le", "instance"]);
        known.extend(metrics.iter().flat_map(|metric| metric.labels()));
        let unknown: Vec<_> = labels(expression)
            .into_iter()
            .filter(|label| !known.contains(label.as_str()))
            .collect();
        ensure!(unknown.is_empty(), "{expression}: {unknown:?}");
    }
    metrics(&text(OPERATIONS)?)?;
    ensure!(metrics("rate(hooklane_attempts_sum[5m])").is_err() && metrics("hooklane_none_total").is_err());
    ensure!(labels("sum by (a, b) (x{c!=\"1\",d=~\"2\"})").len() == 4);

    let mut rules = "groups:\n- name: dashboard\n  rules:\n".to_owned();
    for (index, expression) in dashboard.iter().enumerate() {
        rules += &format!(
            "  - record: panel:{index}\n    expr: {}\n",
            Value::from(expression.as_str())
        );
    }
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("rules.yml"), rules)?;
    let promtool = Spawn::program("promtool").args(["check", "rules", "--lint=none", "rules.yml"]);
    promtool.cwd(dir.path()).run_ok(SOON).await?;
    Ok(())
}
