//! What each source may say, and that every mistake is named with its place and its remedy.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hooklane_dispatcher::UserApplications;
use hooklane_signing::{HeaderFamily, Scheme};
use hooklane_types::{EndpointId, HttpAuth};

use super::{Flag, Loaded, Problem, Report, Role, Sources, load_text};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const BROKER: &str = "[broker]\nurl = \"amqp://u:hunter2@h\"\n";

fn sources(variables: &[(&str, &str)]) -> Sources {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Sources {
        file: Some(PathBuf::from("hooklane.toml")),
        variables,
        flags: Vec::new(),
    }
}

fn load(text: &str) -> Result<Loaded, Report> {
    load_text(&sources(&[]), Role::Check, text.to_owned())
}

fn problems(text: &str) -> Vec<Problem> {
    load(text)
        .expect_err("the settings are wrong")
        .problems()
        .to_vec()
}

/// An endpoint that is right, with more lines; `more` begins at line 6.
fn endpoint(more: &str) -> String {
    format!("{BROKER}[[endpoint]]\nid = \"a\"\nsecret = \"{SECRET}\"\n{more}\n")
}

#[test]
fn an_empty_file_with_a_broker_is_enough() {
    let loaded = load(BROKER).unwrap();
    assert_eq!(loaded.settings.ingest.listen.port(), 8071);
    assert_eq!(loaded.settings.dispatcher.listen.port(), 8072);
    assert_eq!(
        loaded.settings.dispatcher.attempt_timeout,
        Duration::from_secs(15)
    );
    assert!(loaded.settings.egress.https_only);
    assert!(loaded.registry.knows(&loaded.settings.default_application));
}

/// Goal: what is accepted can be delivered: no limit lies over what every broker takes, or over the limit of the next step.
#[test]
fn sizes_that_a_later_step_would_refuse_are_refused() {
    let found = |sections: &str| -> Vec<(String, String)> {
        let found = problems(&format!("{BROKER}{sections}"));
        found
            .into_iter()
            .map(|problem| (problem.key.to_string(), problem.wrong + &problem.remedy))
            .collect()
    };
    let large = found("[dispatcher]\nevent_bytes_max = \"16MiB\"\n");
    assert!(
        large.len() == 1 && large[0].0 == "dispatcher.event_bytes_max" && large[0].1.contains("15MiB"),
        "{large:?}"
    );
    let larger = found("[ingest]\nbody_limit = \"16MiB\"\n");
    assert!(
        larger.len() == 1 && larger[0].0 == "ingest.body_limit" && larger[0].1.contains("15MiB"),
        "{larger:?}"
    );
    let beyond = found("[ingest]\nbody_limit = \"2MiB\"\n");
    assert!(
        beyond.len() == 1
            && beyond[0].0 == "dispatcher.event_bytes_max"
            && beyond[0].1.contains("body_limit"),
        "{beyond:?}"
    );
    let both = "[ingest]\nbody_limit = \"15MiB\"\n[dispatcher]\nevent_bytes_max = \"15MiB\"\n";
    assert!(load(&format!("{BROKER}{both}")).is_ok());
}

/// Goal: each mistake is found on its own line, says what is wrong, and how to mend it.
#[test]
fn every_mistake_has_its_line_and_its_remedy() {
    let table: [(&str, &str, &str); 30] = [
        ("url = \"ftp://h/\"", "not an http or https URL", "https://"),
        (
            "url = \"http://h/\"",
            "only https is allowed",
            "https_only = false",
        ),
        (
            "url = \"https://u:hunter2@h/\"",
            "user name or password",
            "basic_auth",
        ),
        ("url = \"https://h/#x\"", "fragment", "leave out"),
        ("url = \"h/x\"", "no URL", "whole"),
        (
            "url = 5",
            "a whole number stands where a URL is wanted",
            "\"https://example.com/hooks\"",
        ),
        ("timeout = 15", "no unit", "\"15s\""),
        ("timeout = \"1h\"", "out of bounds", "from 100ms to 10m"),
        ("max_in_flight = 0", "out of bounds", "from 1 to 10000"),
        ("throttle_rate = 0", "disable the endpoint", "from 1 to 65535"),
        ("throttle_rate = 0.5", "a whole number", "`16`"),
        (
            "disabled = \"yes\"",
            "a text stands where true or false is wanted",
            "`true`",
        ),
        ("event_types = []", "names no event type", "leave the key out"),
        ("event_types = [\"*.paid\"]", "only letters", "invoice.*"),
        ("event_types = \"invoice.paid\"", "not a list", "[…]"),
        ("channels = [\"a b\"]", "only letters", "letters, digits"),
        ("signature = \"hmac\"", "is not known", "\"github\""),
        (
            "headers = { X-GitHub-Event = \"ping\" }\nsignature = \"github\"",
            "carries the signature",
            "another name",
        ),
        (
            "signature = { hmac = { header = \"host\" } }",
            "another meaning",
            "x-signature",
        ),
        ("headers = { Host = \"x\" }", "is set by Hooklane", "another name"),
        (
            "headers = { x-a = \"a\\r\\nb\" }",
            "no header may carry",
            "line breaks",
        ),
        (
            "headers = { webhook-signature = \"x\" }",
            "is set by Hooklane",
            "leave it out",
        ),
        ("retry = { attempts = 0 }", "at least 1", "attempts = 1"),
        (
            "retry = { attempts = 3, delays = [] }",
            "beside a formula",
            "keep",
        ),
        ("retry = [\"8days\"]", "longer than", "shorter"),
        (
            "retry = \"often\"",
            "neither a formula nor a list",
            "attempts = 3",
        ),
        ("secret_file = \"b\"", "given twice", "keep one"),
        (
            "basic_auth = { username = \"a:b\", password = \"x\" }",
            "colon",
            "without one",
        ),
        (
            "client_key = \"k.pem\"",
            "has no certificate",
            "client_certificate",
        ),
        ("tiemout = \"5s\"", "unknown key", "did you mean `timeout`?"),
    ];
    for (line, wrong, remedy) in table {
        let with_url = if line.starts_with("url") {
            String::new()
        } else {
            "\nurl = \"https://h/\"".to_owned()
        };
        let found = problems(&endpoint(&format!("{line}{with_url}")));
        let on_line: Vec<_> = found
            .iter()
            .filter(|problem| problem.place == "hooklane.toml:6" || line.starts_with("secret_file"))
            .filter(|problem| problem.wrong.contains(wrong) && problem.remedy.contains(remedy))
            .collect();
        assert_eq!(on_line.len(), 1, "{line}: {found:#?}");
        assert_eq!(found.len(), 1, "{line}: {found:#?}");
        assert!(found[0].key.starts_with("endpoint[1]"), "{found:?}");
    }
}

#[test]
fn all_problems_of_a_file_come_in_one_report_in_the_order_of_lines() {
    let text = "[log]\nformat = \"xml\"\n[ingest]\nlisten = \"localhost:1\"\nbody_limit = \"1MB\"\n[[endpoint]]\nurl = \"x\"\n[egres]\nallow = []\n";
    let report = load(text).unwrap_err();
    let places: Vec<_> = report
        .problems()
        .iter()
        .map(|found| (found.place.as_str(), found.key.as_str()))
        .collect();
    assert_eq!(
        places,
        [
            ("hooklane.toml:2", "log.format"),
            ("hooklane.toml:4", "ingest.listen"),
            ("hooklane.toml:5", "ingest.body_limit"),
            ("hooklane.toml:6", "endpoint[1].id"),
            ("hooklane.toml:6", "endpoint[1].secret"),
            ("hooklane.toml:7", "endpoint[1].url"),
            ("hooklane.toml:8", "egres"),
        ]
    );
    assert!(
        report
            .to_string()
            .starts_with("7 problems in the settings\nhooklane.toml:2: log.format: "),
        "{report}"
    );
    assert!(report.to_string().contains("did you mean `egress`?"), "{report}");
}

#[test]
fn text_that_is_no_toml_has_line_and_column_and_is_not_quoted() {
    let found = problems("[broker]\nurl = \"amqp://u:hunter2@h\nprefix = \"x\"\n");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].place, "hooklane.toml:2");
    assert!(found[0].wrong.contains("column"), "{found:?}");
    assert!(!found[0].to_string().contains("hunter2"), "{found:?}");
}

#[test]
fn an_endpoint_id_stands_once_and_the_problem_names_both_lines() {
    let one = format!("[[endpoint]]\nid = \"a\"\nurl = \"https://h/\"\nsecret = \"{SECRET}\"\n");
    let found = problems(&format!("{BROKER}{one}{one}"));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].place, "hooklane.toml:8");
    assert!(found[0].wrong.contains("hooklane.toml:4"), "{found:?}");
}

#[test]
fn environment_goes_before_file_and_flags_before_environment() {
    let mut sources = sources(&[
        ("HOOKLANE_BROKER__URL", "amqp://env"),
        ("HOOKLANE_INGEST__LISTEN", "127.0.0.1:2"),
        ("HOOKLANE_EGRESS__ALLOW", "10.0.0.0/8, 127.0.0.1"),
        ("HOOKLANE_EGRESS__HTTPS_ONLY", "false"),
        ("HOOKLANE_DISPATCHER__IN_FLIGHT_MAX", "7"),
        ("HOOKLANE_DEFAULT_APPLICATION", "acme"),
        ("HOOKLANE_PORT", "tcp://10.0.0.1:80"),
    ]);
    sources.flags.push(Flag {
        name: "--listen",
        key: "ingest.listen",
        value: "127.0.0.1:3".to_owned(),
    });
    let text = "[broker]\nurl_file = \"not there\"\nprefix = \"p\"\n[ingest]\nlisten = \"127.0.0.1:1\"\n[dispatcher]\nlisten = \"127.0.0.1:9\"\n";
    let settings = load_text(&sources, Role::Check, text.to_owned())
        .unwrap()
        .settings;
    assert_eq!(settings.broker.url.unwrap().expose(), "amqp://env");
    assert_eq!(settings.broker.prefix, "p");
    assert_eq!(settings.ingest.listen.port(), 3);
    assert_eq!(settings.dispatcher.listen.port(), 9);
    assert_eq!(settings.egress.allowed_networks.len(), 2);
    assert!(!settings.egress.https_only);
    assert_eq!(settings.dispatcher.settings.in_flight_max, 7);
    assert_eq!(settings.default_application.as_str(), "acme");
}

/// Goal: the nodes of a cluster are a list in the file and commas elsewhere; what is wrong with one is told like with a single one.
#[test]
fn the_broker_may_have_a_url_for_each_node() {
    let of = |url: &str| load(&format!("[broker]\nurl = {url}\n"));
    let two = "amqp://u:p@a/v,amqp://u:p@b/v";
    for text in [
        r#"["amqp://u:p@a/v", "amqp://u:p@b/v"]"#.to_owned(),
        format!("{two:?}"),
    ] {
        let loaded = of(&text).expect("both forms are read");
        assert_eq!(loaded.settings.broker.url.expect("it is given").expose(), two);
    }
    for (text, wrong) in [
        (r#"[]"#, "empty"),
        (
            r#"["amqp://u:hunter2@a/v", "amqp://u:hunter2@b/w"]"#,
            "another vhost",
        ),
        (r#"["amqp://u:hunter2@a/v", 7]"#, "a whole number"),
        (r#""amqp://u:hunter2@a,b/v""#, "several hosts"),
    ] {
        let report = of(text).expect_err(text).to_string();
        assert!(report.contains(wrong) && !report.contains("hunter2"), "{report}");
    }
}

#[test]
fn problems_outside_of_the_file_name_the_variable_or_the_flag() {
    let mut sources = sources(&[
        ("HOOKLANE_EGRESS__ALOW", "x"),
        ("HOOKLANE_INGEST__BODY_LIMIT", "much"),
    ]);
    sources.flags.push(Flag {
        name: "--broker",
        key: "broker.url",
        value: "http://u:hunter2@h".to_owned(),
    });
    let report = load_text(&sources, Role::Check, String::new()).unwrap_err();
    let places: BTreeSet<_> = report
        .problems()
        .iter()
        .map(|found| found.place.as_str())
        .collect();
    assert_eq!(
        places,
        BTreeSet::from(["--broker", "HOOKLANE_EGRESS__ALOW", "HOOKLANE_INGEST__BODY_LIMIT"])
    );
    assert!(report.to_string().contains("did you mean `allow`?"), "{report}");
    assert!(!report.to_string().contains("hunter2"), "{report}");
}

/// Goal: no value of a secret is shown, in no report and in no `Debug`. Every place that takes one is given one, right and
/// wrong.
#[test]
fn secrets_are_never_shown() {
    let right = format!(
        "{BROKER}[ingest]\ntoken = \"hunter2\"\n[egress]\nproxy = \"http://u:hunter2@p:1\"\n[[endpoint]]\nid = \"a\"\nurl = \"https://h/\"\nsecret = \"hunter2\"\nsignature = {{ hmac = {{ header = \"x-s\" }} }}\nbearer_token = \"hunter2\"\nheaders = {{ x-key = \"hunter2\" }}\n"
    );
    let loaded = load(&right).unwrap();
    let shown = format!("{loaded:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    let wrong = "[broker]\nurl = \"hunter2\"\n[ingest]\ntoken = \"hunter2 \"\n[egress]\nproxy = \"hunter2\"\n[[endpoint]]\nid = \"a\"\nurl = \"https://u:hunter2@h/\"\nsecrets = [\"hunter2\", { secret_env = \"hunter2-x\" }]\nbearer_token = \"hunter2 \"\nheaders = { x-key = \"hunter2\\n\" }\nbasic_auth = { username = \"u\", password = [\"hunter2\"] }\n";
    let report = load(wrong).unwrap_err();
    assert!(!report.to_string().contains("hunter2"), "{report}");
    assert!(report.problems().len() >= 7, "{report}");
}

#[test]
fn secrets_come_from_files_and_variables_too_and_several_are_live_at_once() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("old.secret"), format!("{SECRET}\n")).unwrap();
    let text = format!(
        "{BROKER}[[endpoint]]\nid = \"a\"\nurl = \"https://h/\"\nsecrets = [\"{SECRET}\", {{ secret_file = \"old.secret\" }}, {{ secret_env = \"ACME\" }}]\n"
    );
    let mut sources = sources(&[("ACME", SECRET)]);
    sources.file = Some(dir.path().join("hooklane.toml"));
    let loaded = load_text(&sources, Role::Dispatcher, text.clone()).unwrap();
    let endpoint = loaded
        .registry
        .endpoint(&EndpointId::parse("a").unwrap())
        .unwrap();
    let signed = endpoint.signer.sign("msg_1", 1, b"{}");
    assert_eq!(signed[2].1.split(' ').count(), 3, "one signature for each secret");
    std::fs::remove_file(dir.path().join("old.secret")).unwrap();
    let report = load_text(&sources, Role::Dispatcher, text).unwrap_err();
    assert!(
        report.to_string().contains("old.secret cannot be read"),
        "{report}"
    );
}

/// Goal: the pod that strangers reach needs no endpoint's secret.
#[test]
fn ingest_needs_no_secret_of_an_endpoint_and_dispatchers_no_token() {
    let text = format!(
        "{BROKER}[ingest]\nlisten = \"0.0.0.0:1\"\ntoken_env = \"TOKEN\"\n[[endpoint]]\nid = \"a\"\napplication = \"acme\"\nurl = \"https://h/\"\nsecret_env = \"ACME\"\n"
    );
    let loaded = load_text(&sources(&[("TOKEN", "t")]), Role::Ingest, text.clone()).unwrap();
    assert!(loaded.registry.knows(&"acme".parse_id()));
    assert_eq!(
        (loaded.registry.endpoints().count(), loaded.endpoint_count),
        (0, 1)
    );
    let loaded = load_text(&sources(&[("ACME", SECRET)]), Role::Dispatcher, text.clone()).unwrap();
    assert_eq!(loaded.registry.endpoints().count(), 1);
    let report = load_text(&sources(&[]), Role::Check, text).unwrap_err();
    let keys: Vec<_> = report.problems().iter().map(|found| found.key.as_str()).collect();
    assert_eq!(keys, ["ingest.token_env", "endpoint[1].secret_env"]);
}

#[test]
fn listening_off_loopback_without_a_token_is_refused() {
    let found = problems(&format!("{BROKER}[ingest]\nlisten = \"0.0.0.0:8071\"\n"));
    assert_eq!(
        (found[0].place.as_str(), found[0].key.as_str()),
        ("hooklane.toml:4", "ingest.listen")
    );
    assert!(found[0].remedy.contains("token"), "{found:?}");
}

#[test]
fn formats_of_others_take_any_text_as_secret() {
    // Goal: GitHub's and Stripe's secrets are texts, whatever they look like.
    for (name, scheme) in [("github", Scheme::GitHub), ("stripe", Scheme::Stripe)] {
        let text = format!(
            "{BROKER}[[endpoint]]\nid = \"a\"\nurl = \"https://h/\"\nsignature = \"{name}\"\nsecrets = [\"whsec_!\", \"x\"]\n"
        );
        let loaded = load(&text).unwrap();
        let endpoint = loaded.registry.endpoint(&EndpointId::parse("a").unwrap());
        assert_eq!(endpoint.unwrap().signer.scheme(), &scheme);
    }
}

#[test]
fn an_endpoint_can_say_everything() {
    let text = endpoint(
        "application = \"acme\"\nurl = \"https://h/p\"\nevent_types = [\"invoice.*\"]\nchannels = [\"eu\"]\nsignature = \"standard-svix\"\nheaders = { X-Source = \"us\" }\ntimeout = \"3s\"\nbasic_auth = { username = \"u\", password = \"p\" }\nca_file = \"ca.pem\"\nclient_certificate = \"/c.pem\"\nclient_key = \"k.pem\"\nmax_in_flight = 3\nthrottle_rate = 10\ndisabled = true\nretry = { attempts = 3, first = \"1s\", factor = 2, max = \"1m\", jitter = 0.2 }",
    );
    let mut sources = sources(&[]);
    sources.file = Some(PathBuf::from("/etc/hooklane/hooklane.toml"));
    let loaded = load_text(&sources, Role::Check, text).unwrap();
    let endpoint = loaded
        .registry
        .endpoint(&EndpointId::parse("a").unwrap())
        .unwrap();
    assert_eq!(endpoint.signer.scheme(), &Scheme::Standard(HeaderFamily::Svix));
    assert_eq!(endpoint.headers, [("x-source".to_owned(), "us".to_owned())]);
    assert_eq!(
        (endpoint.timeout, endpoint.max_in_flight, endpoint.disabled),
        (Duration::from_secs(3), 3, true)
    );
    assert_eq!(endpoint.throttle_rate.map(u16::from), Some(10));
    assert_eq!(
        endpoint.auth,
        Some(HttpAuth::Basic {
            username: "u".into(),
            password: "p".into()
        })
    );
    assert_eq!(
        endpoint.tls.ca.as_deref(),
        Some(Path::new("/etc/hooklane/ca.pem"))
    );
    assert_eq!(
        endpoint.tls.client.as_ref().unwrap().certificate,
        Path::new("/c.pem")
    );
    assert_eq!(endpoint.retry.attempts(), 3);
    assert_eq!(endpoint.retry.delay_after(2), Some(Duration::from_secs(2)));
}

#[test]
fn broker_users_are_gathered_over_applications() {
    let text = format!(
        "{BROKER}[[application]]\nid = \"a\"\nbroker_users = [\"u\", \"v\"]\n[[application]]\nid = \"b\"\nbroker_users = [\"u\"]\n[[application]]\nid = \"*\"\nbroker_users = [\"admin\"]\n"
    );
    let users = load(&text).unwrap().settings.dispatcher.settings.broker_users;
    assert_eq!(
        users["u"],
        UserApplications::These(vec!["a".parse_id(), "b".parse_id()])
    );
    assert_eq!(users["v"], UserApplications::These(vec!["a".parse_id()]));
    assert_eq!(users["admin"], UserApplications::All);
}

#[test]
fn an_applications_limit_is_its_own_and_nobodys_who_stands_for_all() {
    let limited = |id: &str| format!("{BROKER}[[application]]\nid = \"{id}\"\nthrottle_rate = 7\n");
    let registry = load(&limited("a")).unwrap().registry;
    let rate = |id: &str| registry.throttle_rate(&id.parse_id()).map(u16::from);
    assert_eq!((rate("a"), rate("b")), (Some(7), None));
    let refused = format!("{:?}", load(&limited("*")).err().unwrap());
    assert!(refused.contains("stands for all"), "{refused}");
}

trait ParseId {
    fn parse_id(&self) -> hooklane_types::ApplicationId;
}

impl ParseId for str {
    fn parse_id(&self) -> hooklane_types::ApplicationId {
        hooklane_types::ApplicationId::parse(self).unwrap()
    }
}
