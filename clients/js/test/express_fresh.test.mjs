// Fresh proofs in the Express middleware, over a real server: what is done is what was proven, and it is done once.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Visitor, client, enrolled, listen } from "./kit.mjs";
import { arrive, eachExpress, pass } from "./shop.mjs";

eachExpress((express) => {
  test("a POST is kept, proven, and done once", async (t) => {
    const { app, visitor, phone } = await arrive(t, express);
    await pass(visitor, phone);
    const form = { amount: "100", "to[0][name]": "Bob & <Co>", "tags[]": "a" };
    const asked = await visitor.post("/transfer", form);
    assert.equal(asked.status, 403);
    assert.match(asked.text, /POST \/transfer/);
    assert.deepEqual(app.orders, []);
    const proven = { ...asked.fields, "twofold-code": phone.code() };
    assert.equal((await visitor.post("/transfer", proven)).text, "Sent 100");
    const [order] = app.orders;
    assert.deepEqual({ ...order }, { amount: "100", to: [{ name: "Bob & <Co>" }], tags: ["a"] });

    // Sent again, by the reload button or by a thief, it is asked for anew.
    const replayed = await visitor.post("/transfer", proven);
    assert.equal(replayed.status, 422);
    assert.match(replayed.text, /already used/);
    assert.equal(app.orders.length, 1);
  });

  test("a route of a router is proven as any other", async (t) => {
    const { visitor, phone } = await arrive(t, express);
    await pass(visitor, phone);
    const asked = await visitor.post("/router/pay", { amount: "9" });
    assert.match(asked.text, /action="\/router\/pay"/);
    assert.match(asked.text, /href="\/2fa\/style.css"/);
    assert.equal((await visitor.post("/router/pay", { ...asked.fields, "twofold-code": phone.code() })).text, "Paid 9");
  });

  test("of many copies of a proven POST at once one is done", async (t) => {
    const { app, visitor, phone } = await arrive(t, express);
    await pass(visitor, phone);
    const proven = { amount: "7", "twofold-code": phone.code() };
    await Promise.all(Array.from({ length: 8 }, () => new Visitor(visitor.url, visitor.cookies).post("/transfer", proven)));
    assert.equal(app.orders.length, 1);
  });

  test("two tabs keep what each was about", async (t) => {
    const { app, visitor, phone } = await arrive(t, express);
    await pass(visitor, phone);
    const one = await visitor.post("/transfer", { amount: "1" });
    const two = await visitor.post("/transfer", { amount: "2" });
    await visitor.post("/transfer", { ...two.fields, "twofold-code": phone.code() });
    await visitor.post("/transfer", { ...one.fields, "twofold-code": phone.code() });
    assert.deepEqual(app.orders.map(({ amount }) => amount), ["2", "1"]);
  });

  test("a program proves an act by its name, and another act takes another proof", async (t) => {
    const { app, visitor, phone } = await arrive(t, express);
    await pass(visitor, phone);
    const refused = await visitor.call("/transfer", { amount: 1 });
    assert.equal(refused.status, 403);
    assert.equal(refused.json.code, "step_up_required");
    const { action } = refused.json;
    assert.equal((await visitor.call("/2fa/verify", { code: phone.code(), action })).json.verified, true);
    assert.equal((await visitor.call("/transfer", { amount: 1_000 })).status, 403);
    // Eight at once, each with the session as it is now: the receipt is redeemed by one of them.
    const copies = Array.from({ length: 8 }, () => new Visitor(visitor.url, visitor.cookies));
    const answers = await Promise.all(copies.map((copy) => copy.call("/transfer", { amount: 1 })));
    const statuses = answers.map(({ status }) => status).sort();
    assert.deepEqual(statuses, [200, ...Array(7).fill(403)]);
    assert.deepEqual(app.orders, [{ amount: 1 }]);
  });

  test("a proof for looking lasts for minutes, and for one act", async (t) => {
    const { app, visitor, phone } = await arrive(t, express);
    await pass(visitor, phone);
    const asked = await visitor.get("/keys?page=2");
    assert.match(asked.text, /fresh proof/);
    const proof = { ...asked.fields, "twofold-code": phone.code() };
    assert.equal((await visitor.post("/2fa/fresh", proof)).text, "Keys");
    assert.equal((await visitor.get("/keys")).text, "Keys");
    assert.equal((await visitor.post("/keys", { name: "a" })).text, "Key 1");
    assert.match((await visitor.post("/keys", { name: "b" })).text, /fresh proof/);
    assert.equal(app.orders.length, 1);
    const now = Date.now();
    t.mock.method(Date, "now", () => now + 5 * 60_000);
    assert.match((await visitor.get("/keys")).text, /fresh proof/);
  });

  test("a proof is for one body, whatever its shape and its type", async (t) => {
    const { visitor, phone } = await arrive(t, express);
    await pass(visitor, phone);
    for (const type of ["application/json", "application/merge-patch+json"]) {
      const send = (json) => visitor.call("/keys", json, { headers: { "content-type": type } });
      const asked = (await send(["a", "b"])).json;
      assert.equal((await visitor.call("/2fa/verify", { code: phone.code(), action: asked.action })).status, 200);
      assert.equal((await send(["a", "c"])).json.code, "step_up_required");
      assert.match((await send(["a", "b"])).text, /^Key/);
    }
  });

  test("no method leads past a route for all of them", async (t) => {
    const { visitor, phone } = await arrive(t, express);
    await pass(visitor, phone);
    for (const method of ["GET", "HEAD", "OPTIONS", "PUT"]) {
      assert.equal((await visitor.send("/any", { method, headers: { accept: "*/*" } })).status, 403, method);
    }
    await visitor.post("/2fa/fresh", { next: "/any", at: "code", "twofold-code": phone.code() }, { follow: false });
    assert.equal((await visitor.send("/any", { method: "OPTIONS" })).text, "Done");
  });

  test("where a passkey is asked for a code does not do", async (t) => {
    const { visitor, phone } = await arrive(t, express);
    await pass(visitor, phone);
    const asked = await visitor.get("/safe");
    assert.match(asked.text, /You have none yet/);
    const refused = await visitor.post("/2fa/fresh", { next: "/safe", at: "passkey", "twofold-code": phone.code() });
    assert.match(refused.text, /That takes your passkey/);
    await visitor.post("/2fa/fresh", { next: "/safe", at: "code", "twofold-code": phone.code() });
    assert.match((await visitor.get("/safe")).text, /You have none yet/);
  });

  test("a form of another site does nothing", async (t) => {
    const { app, visitor, phone } = await arrive(t, express);
    await pass(visitor, phone);
    const signs = [{ "sec-fetch-site": "cross-site" }, { origin: "https://evil.example" }, { origin: "null" }];
    for (const headers of signs) {
      const form = { amount: "1", "twofold-code": phone.code() };
      assert.equal((await visitor.post("/transfer", form, { headers })).status, 403);
      assert.equal((await visitor.post("/2fa/enroll", { factor: "totp" }, { headers })).status, 403);
    }
    assert.deepEqual(app.orders, []);
    const own = { "sec-fetch-site": "same-origin", origin: visitor.url };
    assert.equal((await visitor.post("/transfer", { amount: "1" }, { headers: own })).fields.amount, "1");
  });

  test("the bodies are read where no parser has", async (t) => {
    const app = express();
    const { default: session } = await import("express-session");
    const { secondFactor } = await import("@twofold/client/express");
    const twofold = secondFactor({ client, person: (req) => req.session.user, believedMs: 0 });
    app.use(session({ secret: "for tests", resave: false, saveUninitialized: false }), twofold);
    app.get("/in/:user", (req, res) => {
      req.session.user = req.params.user;
      res.send("in");
    });
    app.post("/buy", twofold.fresh(), express.urlencoded({ extended: false }), (req, res) => res.json(req.body));
    const visitor = new Visitor(await listen(t, app));
    const { id, phone } = await enrolled();
    await visitor.get(`/in/${id}`);
    await visitor.post("/2fa/challenge", { "twofold-code": phone.code() }, { follow: false });
    const asked = await visitor.post("/buy", { what: "a boat" });
    const bought = await visitor.post("/buy", { ...asked.fields, "twofold-code": phone.code() });
    assert.deepEqual(bought.json, { what: "a boat" });
    const large = await visitor.post("/buy", { what: "x".repeat(70_000) });
    assert.equal(large.status, 413);
  });
});
