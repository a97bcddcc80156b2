// The application portal by Svix's client library: URL and token as arguments.
const assert = require("node:assert");
const { Svix, ApiException } = require("svix");

async function main() {
  const [url, token] = process.argv.slice(2);
  const svix = new Svix(token, { serverUrl: url });
  const access = await svix.authentication.appPortalAccess("acme-js", { application: { name: "Acme", uid: "acme-js" }, expiry: 3600 });
  const user = new Svix(access.token, { serverUrl: url });
  const endpoint = await user.endpoint.create("acme-js", { url: "https://example.com/" });
  const listed = await user.endpoint.list("acme-js");
  assert.deepStrictEqual(listed.data.map((found) => found.id), [endpoint.id]);
  await user.authentication.logout();
  await assert.rejects(user.endpoint.list("acme-js"), (error) => error instanceof ApiException && error.code === 401);
  assert.strictEqual((await svix.endpoint.list("acme-js")).data.length, 1);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
