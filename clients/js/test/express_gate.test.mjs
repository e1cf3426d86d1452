// The gate of the Express middleware, over a real server: each door with the first factor only, then with both.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Twofold } from "@twofold/client";
import { Phone, Visitor, admin, client, enrolled, listen, newPerson, options } from "./kit.mjs";
import { arrive, CHALLENGE, eachExpress, pass, shop } from "./shop.mjs";

eachExpress((express) => {
  const doors = {
    form: (visitor, id) => visitor.post("/login", { user: id }),
    "form with a new session": (visitor, id) => visitor.post("/login-anew", { user: id }),
    "reset link": (visitor, id) => visitor.get(`/reset/${id}`),
    "magic link": (visitor, id) => visitor.get(`/magic/${id}`),
  };
  for (const [door, open] of Object.entries(doors)) {
    test(`the door "${door}" opens with both factors only`, async (t) => {
      const { visitor, id, phone } = await arrive(t, express, { door: null });
      assert.match((await open(visitor, id)).text, CHALLENGE);
      for (const path of ["/account", "/vault", "/keys", "/"]) assert.match((await visitor.get(path)).text, CHALLENGE);
      assert.equal((await visitor.post("/transfer", { amount: 1 })).text.includes("Sent"), false);
      assert.match((await pass(visitor, phone)).text, new RegExp(`Account of ${id}`));
      assert.match((await visitor.get("/vault")).text, /Vault/);
    });
  }

  test("an administrator who signs in as somebody shows her own second factor", async (t) => {
    const { visitor, id, phone } = await arrive(t, express);
    const other = await enrolled();
    assert.match((await visitor.get(`/login-as/${other.id}`)).text, CHALLENGE);
    await pass(visitor, phone);
    assert.match((await visitor.get(`/login-as/${other.id}`)).text, new RegExp(`Account of ${other.id}`));
    assert.notEqual(id, other.id);
  });

  test("a token opens nothing alone, and with a code what it is for", async (t) => {
    const { visitor, id, phone } = await arrive(t, express, { door: null });
    const headers = { authorization: `Bearer for-${id}` };
    const refused = await visitor.get("/api/account", { headers: { ...headers, accept: "*/*" } });
    assert.equal(refused.status, 403);
    assert.equal(refused.json.code, "second_factor_required");
    const wrong = await visitor.call(refused.json.verify, { code: "000000" }, { headers });
    assert.deepEqual([wrong.status, wrong.json.code], [422, "wrong_code"]);
    const number = await visitor.call(refused.json.verify, { code: 123456 }, { headers });
    assert.deepEqual([number.status, number.json.code], [422, "invalid"]);
    assert.equal((await visitor.call(refused.json.verify, { code: phone.code() }, { headers })).json.verified, true);
    assert.match((await visitor.get("/api/account", { headers })).text, /Account of/);

    // The cookies with another token, or the token without the cookies, are nothing.
    const other = await enrolled();
    const elsewhere = new Visitor(visitor.url);
    const html = { headers: { authorization: `Bearer for-${other.id}` } };
    assert.match((await elsewhere.get("/api/account", { headers })).text, CHALLENGE);
    assert.match((await visitor.get("/api/account", html)).text, CHALLENGE);
  });

  test("a program without a token hears that nobody is signed in", async (t) => {
    const { visitor } = await arrive(t, express, { door: null });
    assert.equal((await visitor.get("/vault", { headers: { accept: "*/*" } })).status, 401);
    assert.equal((await visitor.call("/2fa/verify", { code: "1" })).status, 401);
    assert.equal((await visitor.get("/vault")).path, "/login");
  });

  test("a session that somebody else has planted is worth nothing", async (t) => {
    const attacker = new Visitor(await listen(t, shop(express)));
    const { id, phone } = await enrolled();
    await attacker.get(`/magic/${newPerson()}`);
    await attacker.get("/2fa/enroll");
    await attacker.post("/2fa/enroll", { factor: "totp" });
    const victim = new Visitor(attacker.url, attacker.cookies);
    await victim.get(`/magic/${id}`);
    assert.match((await pass(victim, phone)).text, new RegExp(`Account of ${id}`));
    assert.equal(victim.cookies["connect.sid"], attacker.cookies["connect.sid"]);
    assert.match((await attacker.get("/account")).text, CHALLENGE);
    assert.match((await victim.get("/account")).text, new RegExp(`Account of ${id}`));
  });

  test("signing out and in asks again, even where the session stays", async (t) => {
    for (const out of ["/sign-out", "/forget-me"]) {
      const { visitor, id, phone } = await arrive(t, express);
      assert.match((await pass(visitor, phone)).text, /Account of/);
      await visitor.get(out);
      assert.equal((await visitor.get("/")).text, "Welcome, everybody");
      assert.match((await visitor.get(`/magic/${id}`)).text, CHALLENGE);
    }
  });

  test("somebody else in the same session is asked, and so is the first one who comes back", async (t) => {
    const { visitor, id, phone } = await arrive(t, express);
    const other = await enrolled();
    await pass(visitor, phone);
    assert.match((await visitor.get(`/magic/${other.id}`)).text, CHALLENGE);
    await pass(visitor, other.phone);
    assert.match((await visitor.get(`/magic/${id}`)).text, CHALLENGE);
  });

  test("what happens to the account at Twofold is noticed", async (t) => {
    for (const type of ["signed_out_everywhere", "password_changed", "compromised"]) {
      const { visitor, id, phone } = await arrive(t, express);
      assert.match((await pass(visitor, phone)).text, /Account of/);
      await client.recordEvent(id, { type });
      assert.match((await visitor.get("/account")).text, CHALLENGE);
      assert.match((await pass(visitor, phone)).text, /Account of/);
    }
    const { visitor, id, phone } = await arrive(t, express);
    await pass(visitor, phone);
    await client.recordEvent(id, { type: "disabled" });
    assert.match((await visitor.get("/account")).text, CHALLENGE);
    assert.match((await pass(visitor, phone)).text, /was disabled/);
  });

  test("an authenticator that is removed opens nothing more", async (t) => {
    const { visitor, id, authenticatorId, phone } = await arrive(t, express);
    const secret = "KRUGS4ZANFZSAYJAONSWG4TFOQQGM33S";
    await admin.addAuthenticator(id, { factor: "totp", secret, confirmed: true });
    assert.match((await pass(visitor, phone)).text, /Account of/);
    await admin.deleteAuthenticator(id, authenticatorId);
    assert.match((await visitor.get("/account")).text, CHALLENGE);
    assert.match((await pass(visitor, new Phone(secret))).text, /Account of/);
  });

  test("what Twofold said is believed for a moment, and no longer", async (t) => {
    const { visitor, id, phone } = await arrive(t, express, { believedMs: 60_000 });
    await pass(visitor, phone);
    await client.recordEvent(id, { type: "signed_out_everywhere" });
    assert.match((await visitor.get("/account")).text, /Account of/);
    t.mock.method(Date, "now", () => Number.MAX_SAFE_INTEGER);
    assert.match((await visitor.get("/account")).text, CHALLENGE);
  });

  test("nobody gets in while Twofold cannot be asked", async (t) => {
    const away = new Twofold({ ...options, url: "http://127.0.0.1:9", attemptsMax: 1 });
    const { visitor, landed } = await arrive(t, express, { client: away });
    assert.equal(landed.status, 503);
    assert.equal((await visitor.get("/account", { headers: { accept: "*/*" } })).json.code, "unavailable");
    assert.equal((await new Visitor(visitor.url).get("/")).text, "Welcome, everybody");
  });

  test("paths that are spelled otherwise lead past nothing", async (t) => {
    const { visitor } = await arrive(t, express);
    const paths = ["//account", "/ACCOUNT", "/account/", "/2fa/../account", "/2fa%2f..%2faccount", "/login/../account"];
    for (const path of paths) {
      const { text } = await visitor.get(path);
      assert.doesNotMatch(text, /Account of/, path);
    }
  });

  test("an application below a path of another one leads to its own pages", async (t) => {
    const outer = express();
    outer.use("/shop", shop(express));
    const visitor = new Visitor(`${await listen(t, outer)}/shop`);
    const { id, phone } = await enrolled();
    await visitor.get(`/magic/${id}`, { follow: false });
    const asked = await visitor.get("/account", { follow: false });
    assert.equal(asked.location, "/shop/2fa/challenge?next=%2Fshop%2Faccount");
    const form = { "twofold-code": phone.code(), next: "/shop/account" };
    const passed = await visitor.post("/2fa/challenge", form, { follow: false });
    assert.equal(passed.location, "/shop/account");
    assert.match((await visitor.get("/account")).text, /Account of/);
  });

  test("over https the cookies are for this host and https alone", async (t) => {
    const app = express();
    app.set("trust proxy", true);
    app.use(shop(express));
    const visitor = new Visitor(await listen(t, app));
    const { id, phone } = await enrolled();
    const headers = { "x-forwarded-proto": "https", "x-forwarded-for": "unknown" };
    await visitor.get(`/magic/${id}`, { headers });
    const form = { "twofold-code": phone.code(), next: "/account" };
    const passed = await visitor.post("/2fa/challenge", form, { headers, follow: false });
    const ours = passed.headers.getSetCookie().filter((cookie) => cookie.includes("twofold"));
    assert.equal(ours.length, 2);
    for (const cookie of ours) assert.match(cookie, /^__Host-twofold-\w+=[^;]+; Path=\/; HttpOnly; SameSite=Lax; Secure/);
    assert.match((await visitor.get("/account", { headers })).text, /Account of/);
  });

  test("an id may be a number, and what can be none lets nobody in", async (t) => {
    const ends = [[4711, 200], ["", 500], [{}, 500], [{ id: null }, 500], [NaN, 500], [true, 500], ["a/b", 422]];
    for (const [user, status] of ends) {
      const app = express();
      const { secondFactor } = await import("@twofold/client/express");
      app.use((req, res, next) => {
        req.session = {};
        next();
      });
      app.use(secondFactor({ client, person: () => user, onError: () => {} }));
      app.get("/", (req, res) => res.send("In"));
      app.use((error, req, res, next) => res.sendStatus(500));
      assert.equal((await new Visitor(await listen(t, app)).get("/")).status, status, String(user));
    }
  });

  test("what fails without saying why lets nobody in", async (t) => {
    const { secondFactor } = await import("@twofold/client/express");
    const fails = [{ person: () => Promise.reject() }, { require: () => Promise.reject() }, { person: () => { throw "route"; } }];
    for (const [status, given] of [[200, {}], ...fails.map((each) => [500, each])]) {
      const app = express();
      app.use((req, res, next) => {
        req.session = {};
        next();
      });
      app.use(secondFactor({ client, person: newPerson, onError: () => {}, ...given }));
      app.get("/", (req, res) => res.send("In"));
      app.use((error, req, res, next) => res.sendStatus(500));
      assert.equal((await new Visitor(await listen(t, app)).get("/")).status, status);
    }
  });

  test("without a session it says what is missing", async (t) => {
    const app = express();
    const { secondFactor } = await import("@twofold/client/express");
    app.use(secondFactor({ client, person: () => "alice" }));
    app.use((error, req, res, next) => res.status(500).send(error.message));
    assert.match((await new Visitor(await listen(t, app)).get("/")).text, /needs request\.session/);
  });
});
