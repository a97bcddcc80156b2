// What a platform does with Svix's client library, against a running `hooklane serve`: URL, token and the receiver's URL as arguments.
const assert = require("node:assert/strict");
const { Svix } = require("svix");

const [url, token, receiver] = process.argv.slice(2);
const svix = new Svix(token, { serverUrl: url });

async function refused(status, call) {
  try {
    await call();
  } catch (error) {
    assert.equal(error.code, status, error);
    return error;
  }
  throw new Error(`not refused with ${status}`);
}

async function main() {
  const app = await svix.application.create({ name: "Acme", uid: "acme-js", metadata: { plan: "gold" } });
  assert.match(app.id, /^app_/);
  assert.deepEqual(await svix.application.get("acme-js"), app);
  assert.deepEqual(await svix.application.getOrCreate({ name: "Other", uid: "acme-js" }), app);
  await refused(409, () => svix.application.create({ name: "Other", uid: "acme-js" }));
  assert.equal((await svix.application.patch("acme-js", { name: "Acme Ltd" })).name, "Acme Ltd");
  assert.deepEqual((await svix.application.update(app.id, { name: "Acme", uid: "acme-js" })).metadata, {});
  await refused(422, () => svix.application.create({ name: "a", uid: "with space" }));
  await refused(401, () => new Svix("wrong", { serverUrl: url }).application.list());

  const endpoint = await svix.endpoint.create(app.id, { url: receiver, uid: "orders", filterTypes: ["invoice.paid"] });
  assert.deepEqual(await svix.endpoint.get("acme-js", "orders"), endpoint);
  assert.equal((await svix.endpoint.list("acme-js")).data.length, 1);
  assert.equal((await svix.endpoint.patch("acme-js", "orders", { disabled: true })).disabled, true);
  assert.equal((await svix.endpoint.update("acme-js", "orders", { url: receiver, uid: "orders" })).disabled, false);
  await svix.endpoint.updateHeaders("acme-js", "orders", { headers: { "x-tenant": "7" } });
  assert.deepEqual((await svix.endpoint.getHeaders("acme-js", "orders")).headers, { "x-tenant": "7" });
  const before = await svix.endpoint.getSecret("acme-js", "orders");
  await svix.endpoint.rotateSecret("acme-js", "orders", {});
  assert.notEqual((await svix.endpoint.getSecret("acme-js", "orders")).key, before.key);
  await refused(422, () => svix.endpoint.create("acme-js", { url: "ftp://example.com" }));

  const kind = await svix.eventType.create({ name: "user.signup", description: "x", schemas: { 1: { type: "object" } } });
  assert.equal(kind.name, "user.signup");
  assert.equal((await svix.eventType.update("user.signup", { description: "y" })).description, "y");
  await svix.eventType.delete("user.signup", { expunge: true });
  await refused(404, () => svix.eventType.get("user.signup"));

  const message = await svix.message.create("acme-js", { eventType: "invoice.paid", eventId: "invoice-17", payload: { amount: 49.9 } });
  // Its own id is used once: each call of the client is a request of its own.
  const used = await refused(409, () => svix.message.create("acme-js", { eventType: "invoice.paid", eventId: "invoice-17", payload: {} }));
  assert.equal(used.body.code, "conflict");
  console.log(message.id, app.id, endpoint.id);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
