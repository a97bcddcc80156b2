// What a platform asks of its messages with Svix's client library of npm, against a running `hooklane serve`: URL, token and the receiver's URL as
// arguments. The receiver's `/flaky` answers its first request with 410.
const assert = require("node:assert/strict");
const { Svix } = require("svix");

const [url, token, receiver] = process.argv.slice(2);
const svix = new Svix(token, { serverUrl: url });
const SUCCESS = 0;
const FAIL = 2;

async function refused(status, call) {
  try {
    await call();
  } catch (error) {
    assert.equal(error.code, status, error);
    return error;
  }
  throw new Error(`not refused with ${status}`);
}

async function eventually(look, expected) {
  const end = Date.now() + 20000;
  for (;;) {
    const found = await look();
    try {
      return assert.deepEqual(found, expected);
    } catch (error) {
      if (Date.now() > end) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const ids = (page) => page.data.map((item) => item.id);

// Everything, page by page, and the last page.
async function pages(ask) {
  const found = [];
  let iterator = null;
  for (;;) {
    const page = await ask({ limit: 2, iterator });
    found.push(...ids(page));
    if (page.done) return [found, page];
    iterator = page.iterator;
  }
}

async function main() {
  await svix.application.create({ name: "Acme", uid: "acme" });
  await svix.endpoint.create("acme", { url: receiver, uid: "good" });
  const at = receiver.replace("/hook", "/flaky");
  const flaky = await svix.endpoint.create("acme", { url: at, uid: "flaky", filterTypes: ["user.signup"] });
  const begun = new Date(Date.now() - 1000);
  const messages = [];
  for (let n = 0; n < 5; n++) {
    const eventType = n % 2 ? "invoice.paid" : "user.signup";
    const message = { eventType, eventId: `order-${n}`, payload: { n }, channels: n ? undefined : ["eu"] };
    const made = await svix.message.create("acme", message);
    messages.push(made.id);
    // What was just sent is found at once, by either name.
    for (const name of [made.id, `order-${n}`]) {
      const got = await svix.message.get("acme", name, { withContent: true });
      assert.deepEqual([got.id, got.eventId, got.payload, got.timestamp], [made.id, `order-${n}`, { n }, made.timestamp]);
    }
  }
  assert.deepEqual((await svix.message.get("acme", messages[0], { withContent: false })).payload, {});
  await refused(404, () => svix.message.get("acme", "msg_01arz3ndektsv4rrffq69g5fav"));

  // Lists: the newest first, in pages there and back, and what filters leave.
  await eventually(async () => ids(await svix.message.list("acme")), [...messages].reverse());
  const [listed, last] = await pages((options) => svix.message.list("acme", options));
  assert.deepEqual(listed, [...messages].reverse());
  const back = await svix.message.list("acme", { limit: 2, iterator: last.prevIterator });
  assert.deepEqual(ids(back), listed.slice(2, 4));
  const again = await svix.message.list("acme", { limit: 2, iterator: back.iterator });
  assert.deepEqual(ids(again), listed.slice(4));
  const chosen = async (options) => ids(await svix.message.list("acme", options));
  assert.deepEqual(await chosen({ eventTypes: ["invoice.paid"] }), [messages[3], messages[1]]);
  assert.deepEqual(await chosen({ channel: "eu" }), [messages[0]]);
  assert.deepEqual(await chosen({ before: begun }), []);
  assert.equal((await chosen({ after: begun })).length, 5);
  assert.deepEqual((await svix.message.list("acme", { withContent: true })).data[0].payload, { n: 4 });
  await refused(422, () => svix.message.list("acme", { tag: "x" }));
  await refused(422, () => svix.message.list("acme", { limit: 251 }));

  // Attempts.
  const attempts = async (endpoint, options) => (await svix.messageAttempt.listByEndpoint("acme", endpoint, options)).data;
  const stats = async () => {
    const found = await svix.endpoint.getStats("acme", "flaky", { since: begun });
    return [found.success, found.pending, found.fail];
  };
  await eventually(async () => (await attempts("good")).length, 5);
  // What comes behind the 410 is given up without an attempt.
  await eventually(stats, [0, 0, 3]);
  const [found] = await pages((options) => svix.messageAttempt.listByEndpoint("acme", "good", options));
  assert.deepEqual(found, (await attempts("good")).map((item) => item.id));
  assert.equal(new Set(found).size, 5);
  const [attempt] = await attempts("good", { withMsg: true });
  assert.equal(attempt.msg.id, attempt.msgId);
  assert.deepEqual([attempt.status, attempt.responseStatusCode, attempt.triggerType, attempt.url], [SUCCESS, 200, 0, receiver]);
  assert.deepEqual(await attempts("good", { status: FAIL }), []);
  const gone = await attempts("flaky", { status: FAIL });
  assert.ok(gone.length >= 1);
  assert.equal((await attempts("flaky", { statusCodeClass: 400 })).length, gone.length);
  assert.deepEqual(await attempts("flaky", { statusCodeClass: 500 }), []);
  assert.equal((await attempts("good", { eventTypes: ["invoice.paid"] })).length, 2);
  const ofGood = await svix.messageAttempt.listByMsg("acme", "order-0", { endpointId: "good" });
  assert.deepEqual(ofGood.data.map((item) => item.msgId), [messages[0]]);
  const ofMessage = (await svix.messageAttempt.listByMsg("acme", gone[0].msgId)).data;
  assert.deepEqual(ofMessage.map((item) => item.endpointId === flaky.id).sort(), [false, true]);
  assert.equal((await svix.messageAttempt.get("acme", attempt.msgId, attempt.id)).id, attempt.id);
  await refused(404, () => svix.messageAttempt.get("acme", messages[0], "atmpt_1"));
  await svix.messageAttempt.expungeContent("acme", attempt.msgId, attempt.id);
  assert.equal((await svix.messageAttempt.get("acme", attempt.msgId, attempt.id)).response, "EXPUNGED");

  // How messages stand at an endpoint, and endpoints at a message.
  const standing = async (status) => ids(await svix.messageAttempt.listAttemptedMessages("acme", "flaky", { status }));
  assert.deepEqual(await standing(FAIL), [messages[4], messages[2], messages[0]]);
  const destinations = (await svix.messageAttempt.listAttemptedDestinations("acme", messages[0])).data;
  assert.deepEqual(Object.fromEntries(destinations.map((item) => [item.uid, item.status])), { good: SUCCESS, flaky: FAIL });

  // Once more, by hand: the endpoint is changed, so that it is tried again.
  await svix.endpoint.patch("acme", "flaky", { description: "mended" });
  await svix.messageAttempt.resend("acme", "order-0", "flaky");
  await eventually(() => standing(SUCCESS), [messages[0]]);
  const [resent] = (await svix.messageAttempt.listByMsg("acme", messages[0], { endpointId: "flaky" })).data;
  assert.deepEqual([resent.triggerType, resent.status], [1, SUCCESS]);

  // A payload that is gone is gone, and cannot be sent again.
  await svix.message.expungeContent("acme", messages[4]);
  assert.deepEqual((await svix.message.get("acme", messages[4], { withContent: true })).payload, { expired: true });
  const missing = await refused(400, () => svix.messageAttempt.resend("acme", messages[4], "flaky"));
  assert.equal(missing.body.code, "missing_payload");

  // All that failed, but what has no payload.
  const task = await svix.endpoint.recover("acme", "flaky", { since: begun });
  assert.deepEqual([task.task, task.status], ["endpoint.recover", "running"]);
  await eventually(stats, [2, 0, 1]);

  // Examples.
  await svix.eventType.create({ name: "user.signup", description: "x", schemas: { 1: { examples: [{ a: 1 }, { b: 2 }] } } });
  const example = await svix.endpoint.sendExample("acme", "flaky", { eventType: "user.signup", exampleIndex: 1 });
  assert.deepEqual(example.payload, { b: 2 });
  await eventually(async () => (await svix.messageAttempt.listByMsg("acme", example.id)).data.map((item) => item.status), [SUCCESS]);

  // What is not there says so in the API's own words.
  const nothing = await refused(404, () => svix.message.expungeAllContents("acme"));
  assert.equal(nothing.body.code, "not_found");
  await refused(404, () => svix.endpoint.replayMissing("acme", "flaky", { since: begun }));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
