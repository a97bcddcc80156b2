//! Deliveries as our users' receivers see them: verified by the libraries that they run, and by the receivers of docs/RECEIVING.md.

mod stage;

use anyhow::{Context, Result, ensure};
use hooklane_receiver::Request;
use hooklane_testkit::process::{Process, Spawn};
use hooklane_testkit::{Port, eventually, javascript, python};
use serde_json::json;
use stage::{On, SECRET, SOON, Stage, on_both};

on_both!(
    standard_webhooks_libraries_of_both_registries_verify_a_delivery,
    svix_libraries_verify_svix_headers,
    during_a_rotation_either_secret_verifies_and_ed25519_stands_beside_hmac,
    the_users_hex_hmac_is_what_pythons_standard_library_computes,
    githubs_receivers_verify_a_delivery_in_its_format,
    stripes_libraries_verify_a_delivery_in_its_format_with_either_secret,
    the_documented_flask_receiver_processes_each_event_once,
    the_documented_express_receiver_processes_each_event_once,
);

fn snippet(file: &str) -> Result<String> {
    let text = std::fs::read_to_string(python::workspace_root().join("docs/RECEIVING.md"))?;
    text.split("```")
        .filter_map(|block| block.split_once('\n'))
        .map(|(_language, code)| code)
        .find(|code| code.lines().next().is_some_and(|line| line.contains(file)))
        .map(str::to_owned)
        .with_context(|| format!("docs/RECEIVING.md has no block for {file}"))
}

async fn one_delivery(on: On, more: &str) -> Result<Request> {
    let stage = Stage::on(on).await?;
    stage.settings("", &stage.endpoint("ep_hook", "/hook", more))?;
    let ingest = stage.ingest().await?;
    let _dispatchers = stage.dispatchers(2).await?;
    ingest
        .publish(&stage.http, "invoice.paid", "{ \"total\": 1.0, \"é\": \"ü\" }")
        .await?;
    stage.receiver.wait_for(1, SOON).await?;
    Ok(stage.receiver.received().remove(0))
}

/// Headers, body and secret as a JSON document for a script's environment.
fn as_json(request: &Request, secret: &str) -> Result<String> {
    let headers: serde_json::Map<_, _> = request
        .headers
        .iter()
        .map(|(name, value)| Ok((name.to_string(), json!(value.to_str()?))))
        .collect::<Result<_>>()?;
    Ok(
        json!({"headers": headers, "body": std::str::from_utf8(&request.body)?, "secret": secret})
            .to_string(),
    )
}

const PYTHON_VERIFY: &str = r#"
import json, os, sys
given = json.loads(os.environ["GIVEN"])
if sys.argv[1:] == ["svix"] or os.environ.get("LIBRARY") == "svix":
    from svix.webhooks import Webhook, WebhookVerificationError
else:
    from standardwebhooks import Webhook, WebhookVerificationError
Webhook(given["secret"]).verify(given["body"].encode(), given["headers"])
try:
    Webhook(given["secret"]).verify(given["body"].encode() + b" ", given["headers"])
    sys.exit("a changed body was accepted")
except WebhookVerificationError:
    print("verified")
"#;

const NODE_VERIFY: &str = r#"
const given = JSON.parse(process.env.GIVEN);
const { Webhook } = require(process.env.LIBRARY);
new Webhook(given.secret).verify(given.body, given.headers);
try {
  new Webhook(given.secret).verify(given.body + " ", given.headers);
} catch (error) {
  console.log("verified");
}
"#;

async fn verified(script: Spawn, library: &str, request: &Request) -> Result<()> {
    verified_with(script, library, request, SECRET).await
}

async fn verified_with(script: Spawn, library: &str, request: &Request, secret: &str) -> Result<()> {
    let said = script
        .env("GIVEN", as_json(request, secret)?)
        .env("LIBRARY", library)
        .run_ok(SOON)
        .await?;
    ensure!(said.contains("verified"), "{library} said {said}");
    Ok(())
}

async fn standard_webhooks_libraries_of_both_registries_verify_a_delivery(on: On) -> Result<()> {
    // Goal: standardwebhooks and svix, Python and Node, accept the delivery and refuse a changed body.
    let request = one_delivery(on, "").await?;
    for library in ["standardwebhooks", "svix"] {
        verified(python::code(PYTHON_VERIFY)?, library, &request).await?;
        verified(javascript::code(NODE_VERIFY)?, library, &request).await?;
    }
    Ok(())
}

async fn svix_libraries_verify_svix_headers(on: On) -> Result<()> {
    // Goal: `signature = "standard-svix"` sends svix-* headers that svix's own libraries accept.
    let request = one_delivery(on, "signature = \"standard-svix\"").await?;
    assert!(request.header("svix-signature").is_some());
    verified(python::code(PYTHON_VERIFY)?, "svix", &request).await?;
    verified(javascript::code(NODE_VERIFY)?, "svix", &request).await
}

async fn during_a_rotation_either_secret_verifies_and_ed25519_stands_beside_hmac(on: On) -> Result<()> {
    // Goal: several secrets are live at once: receivers that know the old, the new, or only the public key accept the same delivery.
    // Method: the libraries with each secret, `hooklane verify` with the public key, and a secret that is not live.
    let stage = Stage::on(on).await?;
    let old = SECRET;
    let new = stage.run(&["secret"]).await?.trim().to_owned();
    let pair = stage.run(&["secret", "--kind", "ed25519"]).await?;
    let (private, public) = pair.trim().split_once('\n').context("two lines")?;
    std::fs::write(stage.dir.path().join("private"), private)?;
    std::fs::write(stage.dir.path().join("public"), public)?;
    let url = stage.receiver.url("/hook");
    stage.settings(
        "",
        &format!(
            "[[endpoint]]\nid = \"ep_rotating\"\napplication = \"acme\"\nurl = \"{url}\"\n\
             secrets = [\"{new}\", {{ secret = \"{old}\" }}, {{ secret_file = \"private\" }}]\n"
        ),
    )?;
    let ingest = stage.ingest().await?;
    let _dispatcher = stage.dispatcher().await?;
    ingest.publish(&stage.http, "a", "{\"n\":1.0}").await?;
    stage.receiver.wait_for(1, SOON).await?;
    let request = stage.receiver.received().remove(0);
    for secret in [old, &new] {
        verified_with(python::code(PYTHON_VERIFY)?, "standardwebhooks", &request, secret).await?;
        verified_with(
            javascript::code(NODE_VERIFY)?,
            "standardwebhooks",
            &request,
            secret,
        )
        .await?;
    }
    let stranger = stage.run(&["secret"]).await?;
    let refused = verified_with(
        python::code(PYTHON_VERIFY)?,
        "standardwebhooks",
        &request,
        stranger.trim(),
    )
    .await;
    ensure!(refused.is_err(), "a secret that is not live was accepted");
    std::fs::write(stage.dir.path().join("body"), &request.body)?;
    let mut arguments = vec![
        "verify".to_owned(),
        "body".to_owned(),
        "--secret-file".to_owned(),
        "public".to_owned(),
    ];
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        let value = request.header(name).with_context(|| name.to_owned())?;
        arguments.extend(["--header".to_owned(), format!("{name}: {value}")]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    ensure!(stage.run(&arguments).await? == "ok\n");
    Ok(())
}

async fn the_users_hex_hmac_is_what_pythons_standard_library_computes(on: On) -> Result<()> {
    // Goal: hex HMAC-SHA256 over the body in a header of the user's choice, checked by the documented function.
    let stage = Stage::on(on).await?;
    let url = stage.receiver.url("/hook");
    stage.settings(
        "",
        &format!(
            "[[endpoint]]\nid = \"ep_hmac\"\napplication = \"acme\"\nurl = \"{url}\"\nsecret = \"my secret\"\n\
             signature = {{ hmac = {{ header = \"X-Signature\", hash = \"sha256\", encoding = \"hex\" }} }}\n"
        ),
    )?;
    let ingest = stage.ingest().await?;
    let _dispatcher = stage.dispatcher().await?;
    ingest.publish(&stage.http, "a", "{\"amount\": 10.50}").await?;
    stage.receiver.wait_for(1, SOON).await?;
    let request = stage.receiver.received().remove(0);
    assert!(request.webhook_id().is_some_and(|id| id.starts_with("msg_")));
    let code = format!(
        "{}\nimport os\nassert verify(b'my secret', os.environ['BODY'].encode(), os.environ['SIGNATURE'])\n\
         assert not verify(b'other', os.environ['BODY'].encode(), os.environ['SIGNATURE'])\nprint('verified')\n",
        snippet("verify_hmac.py")?
    );
    let said = python::code(&code)?
        .env("BODY", std::str::from_utf8(&request.body)?)
        .env("SIGNATURE", request.header("x-signature").context("a signature")?)
        .run_ok(SOON)
        .await?;
    assert!(said.contains("verified"));
    Ok(())
}

const PYTHON_GITHUB: &str = r#"
import json, os, sys, uuid
from gidgethub import ValidationFailure
from gidgethub.sansio import Event
given = json.loads(os.environ["GIVEN"])
headers, body = given["headers"], given["body"].encode()
event = Event.from_http(headers, body, secret=given["secret"])
assert event.event == "invoice.paid", event.event
assert event.data == {"total": 1.0, "é": "ü"}, event.data
guid = uuid.UUID(event.delivery_id)
assert guid == uuid.uuid5(uuid.NAMESPACE_URL, "hooklane:event:" + headers["webhook-id"])
for changed, secret in [(body + b" ", given["secret"]), (body, "another")]:
    try:
        Event.from_http(headers, changed, secret=secret)
        sys.exit("a changed body or another secret was accepted")
    except ValidationFailure:
        pass
print("verified")
"#;

const NODE_GITHUB: &str = r#"
const { verify } = require("@octokit/webhooks-methods");
const { createHmac } = require("node:crypto");
const { secret, body, headers } = JSON.parse(process.env.GIVEN);
(async () => {
  const signature = headers["x-hub-signature-256"];
  if (!(await verify(secret, body, signature))) throw new Error("refused");
  if (await verify(secret, body + " ", signature)) throw new Error("a changed body was accepted");
  if (await verify("another", body, signature)) throw new Error("another secret was accepted");
  const sha1 = "sha1=" + createHmac("sha1", secret).update(body).digest("hex");
  if (headers["x-hub-signature"] !== sha1) throw new Error("the SHA-1 signature is wrong");
  console.log("verified");
})().catch((error) => { console.error(error); process.exit(1); });
"#;

const PYTHON_STRIPE: &str = r#"
import json, os, sys
from stripe import SignatureVerificationError, WebhookSignature
given = json.loads(os.environ["GIVEN"])
signature = given["headers"]["stripe-signature"]
WebhookSignature.verify_header(given["body"], signature, given["secret"], tolerance=300)
for body, secret in [(given["body"] + " ", given["secret"]), (given["body"], "another")]:
    try:
        WebhookSignature.verify_header(body, signature, secret, tolerance=300)
        sys.exit("a changed body or another secret was accepted")
    except SignatureVerificationError:
        pass
print("verified")
"#;

const NODE_STRIPE: &str = r#"
const { webhooks } = require("stripe")("sk_test_unused");
const { secret, body, headers } = JSON.parse(process.env.GIVEN);
const event = webhooks.constructEvent(body, headers["stripe-signature"], secret);
if (event.total !== 1) throw new Error("not what was published");
for (const [changed, key] of [[body + " ", secret], [body, "another"]]) {
  let refused = false;
  try { webhooks.constructEvent(changed, headers["stripe-signature"], key); } catch { refused = true; }
  if (!refused) throw new Error("a changed body or another secret was accepted");
}
console.log("verified");
"#;

/// One delivery in another sender's format, with these secrets live.
async fn delivery_in_format_of(on: On, format: &str, secrets: &[&str]) -> Result<Request> {
    let stage = Stage::on(on).await?;
    let url = stage.receiver.url("/hook");
    stage.settings(
        "",
        &format!(
            "[[endpoint]]\nid = \"ep_{format}\"\napplication = \"acme\"\nurl = \"{url}\"\nsignature = \"{format}\"\nsecrets = {secrets:?}\n"
        ),
    )?;
    let ingest = stage.ingest().await?;
    let _dispatcher = stage.dispatcher().await?;
    ingest
        .publish(&stage.http, "invoice.paid", "{ \"total\": 1.0, \"é\": \"ü\" }")
        .await?;
    stage.receiver.wait_for(1, SOON).await?;
    Ok(stage.receiver.received().remove(0))
}

async fn githubs_receivers_verify_a_delivery_in_its_format(on: On) -> Result<()> {
    // Goal: gidgethub and octokit accept type, GUID and signature, and refuse a changed body; the first of two secrets signs.
    let request = delivery_in_format_of(on, "github", &["my secret", "an older one"]).await?;
    verified_with(python::code(PYTHON_GITHUB)?, "gidgethub", &request, "my secret").await?;
    verified_with(
        javascript::code(NODE_GITHUB)?,
        "@octokit/webhooks-methods",
        &request,
        "my secret",
    )
    .await
}

async fn stripes_libraries_verify_a_delivery_in_its_format_with_either_secret(on: On) -> Result<()> {
    // Goal: Stripe's own libraries accept either of two live secrets, whsec_ included, and refuse a changed body.
    let request = delivery_in_format_of(on, "stripe", &["whsec_new", SECRET]).await?;
    for secret in ["whsec_new", SECRET] {
        verified_with(python::code(PYTHON_STRIPE)?, "stripe", &request, secret).await?;
        verified_with(javascript::code(NODE_STRIPE)?, "stripe", &request, secret).await?;
    }
    Ok(())
}

/// Runs a documented receiver, sends it one event twice and a forged one.
async fn documented_receiver(on: On, script: Spawn) -> Result<()> {
    let port = Port::lease()?;
    let receiver: Process = script
        .env("PORT", port.number().to_string())
        .env("WEBHOOK_SECRET", SECRET)
        .start()?;
    let url = format!("http://127.0.0.1:{}/webhook", port.number());
    let stage = Stage::on(on).await?;
    eventually("the receiver to listen", SOON, || async {
        let answer = stage.http.post(&url).body("{}").send().await?;
        ensure!(
            answer.status().as_u16() == 401,
            "an unsigned request was answered {}",
            answer.status()
        );
        Ok(())
    })
    .await?;
    stage.settings(
        "",
        &format!(
            "[[endpoint]]\nid = \"ep_doc\"\napplication = \"acme\"\nurl = \"{url}\"\nsecret = \"{SECRET}\"\n"
        ),
    )?;
    let ingest = stage.ingest().await?;
    // Two dispatchers know nothing of each other's claims: both copies may be delivered, and the receiver processes one.
    let _dispatchers = stage.dispatchers(2).await?;
    let body = json!({"eventType": "a", "eventId": "one", "payload": {"n": 1}}).to_string();
    for _ in 0..4 {
        let (status, answer) = ingest.post(&stage.http, "acme", body.clone()).await?;
        // Where a store knows the id, a repeat is refused.
        ensure!(
            status == 202 || on == On::Embedded && status == 409,
            "{status} {answer}"
        );
    }
    receiver.wait_for_line("processed msg_", SOON).await?;
    stage.wait_empty("events", SOON).await?;
    stage.wait_empty("deliveries", SOON).await?;
    let processed = receiver
        .output()
        .lines()
        .iter()
        .filter(|line| line.text.contains("processed msg_"))
        .count();
    assert_eq!(processed, 1);
    Ok(())
}

async fn the_documented_flask_receiver_processes_each_event_once(on: On) -> Result<()> {
    // Goal: the code of docs/RECEIVING.md as it stands.
    documented_receiver(on, python::code(&snippet("receiver.py:")?)?).await
}

async fn the_documented_express_receiver_processes_each_event_once(on: On) -> Result<()> {
    // Goal: the code of docs/RECEIVING.md as it stands.
    documented_receiver(on, javascript::code(&snippet("receiver.js:")?)?).await
}
