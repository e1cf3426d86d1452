// The Express middleware, for both versions, over a real server: each door with the first factor only, then with both.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import express4 from "express4";
import express5 from "express5";
import { Twofold } from "@twofold/client";
import { Phone, Visitor, admin, client, enrolled, listen, newPerson, options } from "./kit.mjs";
import { shop } from "./shop.mjs";

const RETURN_TO = "http://localhost/2fa/back";
const CHALLENGE = /Show that it is you/;

for (const [name, express] of Object.entries({ "Express 4": express4, "Express 5": express5 })) {
  describe(name, () => {
    /** A shop, and somebody with an app; signed in with the first factor by a door, unless it is null. */
    async function arrive(test, { door = "/magic", ...options } = {}) {
      const app = shop(express, options);
      const url = await listen(test, app);
      const person = await enrolled();
      const visitor = new Visitor(url);
      const landed = door && (await visitor.get(`${door}/${person.id}`));
      return { app, url, visitor, landed, ...person };
    }

    const pass = (visitor, phone, next = "/account") =>
      visitor.post("/2fa/challenge", { "twofold-code": phone.code(), next });

    const doors = {
      form: (visitor, id) => visitor.post("/login", { user: id }),
      "form with a new session": (visitor, id) => visitor.post("/login-anew", { user: id }),
      "reset link": (visitor, id) => visitor.get(`/reset/${id}`),
      "magic link": (visitor, id) => visitor.get(`/magic/${id}`),
    };
    for (const [door, open] of Object.entries(doors)) {
      test(`the door "${door}" opens with both factors only`, async (t) => {
        const { visitor, id, phone } = await arrive(t, { door: null });
        assert.match((await open(visitor, id)).text, CHALLENGE);
        for (const path of ["/account", "/vault", "/keys", "/"]) assert.match((await visitor.get(path)).text, CHALLENGE);
        assert.equal((await visitor.post("/transfer", { amount: 1 })).text.includes("Sent"), false);
        assert.match((await pass(visitor, phone)).text, new RegExp(`Account of ${id}`));
        assert.match((await visitor.get("/vault")).text, /Vault/);
      });
    }

    test("a wrong code leaves it shut, with a sentence, and a right one leads on", async (t) => {
      const { visitor, phone } = await arrive(t);
      const refused = await visitor.post("/2fa/challenge", { "twofold-code": "000000", next: "/vault" });
      assert.equal(refused.status, 422);
      assert.match(refused.text, /wrong or no longer valid/);
      assert.match((await visitor.get("/account")).text, CHALLENGE);
      assert.equal((await pass(visitor, phone, refused.fields.next)).text, "Vault");
    });

    test("an administrator who signs in as somebody shows her own second factor", async (t) => {
      const { visitor, id, phone } = await arrive(t);
      const other = await enrolled();
      assert.match((await visitor.get(`/login-as/${other.id}`)).text, CHALLENGE);
      await pass(visitor, phone);
      assert.match((await visitor.get(`/login-as/${other.id}`)).text, new RegExp(`Account of ${other.id}`));
      assert.notEqual(id, other.id);
    });

    test("a token opens nothing alone, and with a code what it is for", async (t) => {
      const { visitor, id, phone } = await arrive(t, { door: null });
      const headers = { authorization: `Bearer for-${id}` };
      const refused = await visitor.get("/api/account", { headers: { ...headers, accept: "*/*" } });
      assert.equal(refused.status, 403);
      assert.equal(refused.json.code, "second_factor_required");
      const wrong = await visitor.call(refused.json.verify, { code: "000000" }, { headers });
      assert.deepEqual([wrong.status, wrong.json.code], [422, "wrong_code"]);
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
      const { visitor } = await arrive(t, { door: null });
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

    test("the secret of an enrollment is not shown to another browser with the same session", async (t) => {
      const victim = new Visitor(await listen(t, shop(express)));
      await victim.get(`/magic/${newPerson()}`);
      const shown = await victim.post("/2fa/enroll", { factor: "totp" });
      const thief = new Visitor(victim.url, { "connect.sid": victim.cookies["connect.sid"] });
      assert.notEqual(secretOn(await thief.post("/2fa/enroll", { factor: "totp" })), secretOn(shown));
    });

    test("signing out and in asks again, even where the session stays", async (t) => {
      for (const out of ["/sign-out", "/forget-me"]) {
        const { visitor, id, phone } = await arrive(t);
        assert.match((await pass(visitor, phone)).text, /Account of/);
        await visitor.get(out);
        assert.equal((await visitor.get("/")).text, "Welcome, everybody");
        assert.match((await visitor.get(`/magic/${id}`)).text, CHALLENGE);
      }
    });

    test("somebody else in the same session is asked, and so is the first one who comes back", async (t) => {
      const { visitor, id, phone } = await arrive(t);
      const other = await enrolled();
      await pass(visitor, phone);
      assert.match((await visitor.get(`/magic/${other.id}`)).text, CHALLENGE);
      await pass(visitor, other.phone);
      assert.match((await visitor.get(`/magic/${id}`)).text, CHALLENGE);
    });

    test("what happens to the account at Twofold is noticed", async (t) => {
      for (const type of ["signed_out_everywhere", "password_changed", "compromised"]) {
        const { visitor, id, phone } = await arrive(t);
        assert.match((await pass(visitor, phone)).text, /Account of/);
        await client.recordEvent(id, { type });
        assert.match((await visitor.get("/account")).text, CHALLENGE);
        assert.match((await pass(visitor, phone)).text, /Account of/);
      }
      const { visitor, id, phone } = await arrive(t);
      await pass(visitor, phone);
      await client.recordEvent(id, { type: "disabled" });
      assert.match((await visitor.get("/account")).text, CHALLENGE);
      assert.match((await pass(visitor, phone)).text, /was disabled/);
    });

    test("an authenticator that is removed opens nothing more", async (t) => {
      const { visitor, id, authenticatorId, phone } = await arrive(t);
      const secret = "KRUGS4ZANFZSAYJAONSWG4TFOQQGM33S";
      await admin.addAuthenticator(id, { factor: "totp", secret, confirmed: true });
      assert.match((await pass(visitor, phone)).text, /Account of/);
      await admin.deleteAuthenticator(id, authenticatorId);
      assert.match((await visitor.get("/account")).text, CHALLENGE);
      assert.match((await pass(visitor, new Phone(secret))).text, /Account of/);
    });

    test("what Twofold said is believed for a moment, and no longer", async (t) => {
      const { visitor, id, phone } = await arrive(t, { believedMs: 60_000 });
      await pass(visitor, phone);
      await client.recordEvent(id, { type: "signed_out_everywhere" });
      assert.match((await visitor.get("/account")).text, /Account of/);
      t.mock.method(Date, "now", () => Number.MAX_SAFE_INTEGER);
      assert.match((await visitor.get("/account")).text, CHALLENGE);
    });

    test("nobody gets in while Twofold cannot be asked", async (t) => {
      const away = new Twofold({ ...options, url: "http://127.0.0.1:9", attemptsMax: 1 });
      const { visitor, landed } = await arrive(t, { client: away });
      assert.equal(landed.status, 503);
      assert.equal((await visitor.get("/account", { headers: { accept: "*/*" } })).json.code, "unavailable");
      assert.equal((await new Visitor(visitor.url).get("/")).text, "Welcome, everybody");
    });

    test("whoever has no second factor goes on, unless one is required", async (t) => {
      const free = new Visitor(await listen(t, shop(express)));
      assert.match((await free.get(`/magic/${newPerson()}`)).text, /Account of/);
      assert.match((await free.get("/vault")).text, /Set up your second step/);

      const bound = new Visitor(await listen(t, shop(express, { require: () => true })));
      const choice = await bound.get(`/magic/${newPerson()}`);
      assert.match(choice.text, /Set up your second step/);
      const shown = await bound.post("/2fa/enroll", { factor: "totp", next: choice.fields.next });
      const wrong = await bound.post("/2fa/enroll", { ...shown.fields, code: "000000" });
      assert.equal(wrong.status, 422);
      assert.equal(secretOn(wrong), secretOn(shown));
      const done = await bound.post("/2fa/enroll", { ...wrong.fields, code: new Phone(secretOn(shown)).code() });
      assert.equal(done.text.match(/class="recovery-code"/g).length, 10);
      assert.match((await bound.get("/account")).text, /Account of/);
    });

    test("another authenticator takes a proof by the one that is there", async (t) => {
      const { visitor, phone } = await arrive(t);
      assert.match((await visitor.get("/2fa/enroll")).text, CHALLENGE);
      await pass(visitor, phone);
      const asked = await visitor.post("/2fa/enroll", { factor: "totp" });
      assert.match(asked.text, /First show one that you have/);
      assert.doesNotMatch(asked.text, /id="secret"/);
      const choice = await visitor.post("/2fa/enroll", { "twofold-code": phone.code() });
      assert.match(choice.text, /Authenticator app/);
      const shown = await visitor.post("/2fa/enroll", { factor: "totp", next: "/account" });
      const code = new Phone(secretOn(shown)).code();
      assert.match((await visitor.post("/2fa/enroll", { ...shown.fields, code })).text, /recovery-code|Account of/);
      // One proof, one authenticator.
      assert.match((await visitor.post("/2fa/enroll", { factor: "totp" })).text, /First show one that you have/);
    });

    test("a POST is kept, proven, and done once", async (t) => {
      const { app, visitor, phone } = await arrive(t);
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

    test("of many copies of a proven POST at once one is done", async (t) => {
      const { app, visitor, phone } = await arrive(t);
      await pass(visitor, phone);
      const proven = { amount: "7", "twofold-code": phone.code() };
      await Promise.all(Array.from({ length: 8 }, () => new Visitor(visitor.url, visitor.cookies).post("/transfer", proven)));
      assert.equal(app.orders.length, 1);
    });

    test("two tabs keep what each was about", async (t) => {
      const { app, visitor, phone } = await arrive(t);
      await pass(visitor, phone);
      const one = await visitor.post("/transfer", { amount: "1" });
      const two = await visitor.post("/transfer", { amount: "2" });
      await visitor.post("/transfer", { ...two.fields, "twofold-code": phone.code() });
      await visitor.post("/transfer", { ...one.fields, "twofold-code": phone.code() });
      assert.deepEqual(app.orders.map(({ amount }) => amount), ["2", "1"]);
    });

    test("a program proves an act by its name, and another act takes another proof", async (t) => {
      const { app, visitor, phone } = await arrive(t);
      await pass(visitor, phone);
      const refused = await visitor.call("/transfer", { amount: 1 });
      assert.equal(refused.status, 403);
      assert.equal(refused.json.code, "step_up_required");
      const { action } = refused.json;
      assert.equal((await visitor.call("/2fa/verify", { code: phone.code(), action })).json.verified, true);
      assert.equal((await visitor.call("/transfer", { amount: 1_000 })).status, 403);
      // Eight at once, each with the session as it is now: the receipt is redeemed by one of them.
      const copies = Array.from({ length: 8 }, () => new Visitor(visitor.url, visitor.cookies).call("/transfer", { amount: 1 }));
      const statuses = (await Promise.all(copies)).map(({ status }) => status).sort();
      assert.deepEqual(statuses, [200, ...Array(7).fill(403)]);
      assert.deepEqual(app.orders, [{ amount: 1 }]);
    });

    test("a proof for looking lasts for minutes, and for one act", async (t) => {
      const { app, visitor, phone } = await arrive(t);
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

    test("where a passkey is asked for a code does not do", async (t) => {
      const { visitor, phone } = await arrive(t);
      await pass(visitor, phone);
      const asked = await visitor.get("/safe");
      assert.match(asked.text, /You have none yet/);
      const refused = await visitor.post("/2fa/fresh", { next: "/safe", at: "passkey", "twofold-code": phone.code() });
      assert.match(refused.text, /That takes your passkey/);
      await visitor.post("/2fa/fresh", { next: "/safe", at: "code", "twofold-code": phone.code() });
      assert.match((await visitor.get("/safe")).text, /You have none yet/);
    });

    test("a form of another site does nothing", async (t) => {
      const { app, visitor, phone } = await arrive(t);
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

    test("after the challenge it goes on inside the application only", async (t) => {
      for (const next of ["https://evil.example", "//evil.example", "/\\evil.example", "/x/..//evil.example", "javascript:1"]) {
        const { visitor, phone } = await arrive(t);
        const form = { "twofold-code": phone.code(), next };
        assert.equal((await visitor.post("/2fa/challenge", form, { follow: false })).location, "/");
      }
      const { visitor, phone, landed } = await arrive(t);
      assert.equal(landed.fields.next, "/account");
      const form = { "twofold-code": phone.code(), next: "/account?tab=2#x" };
      assert.equal((await visitor.post("/2fa/challenge", form, { follow: false })).location, "/account?tab=2");
    });

    test("paths that are spelled otherwise lead past nothing", async (t) => {
      const { visitor } = await arrive(t);
      for (const path of ["//account", "/ACCOUNT", "/account/", "/2fa/../account", "/2fa%2f..%2faccount", "/login/../account"]) {
        const { text } = await visitor.get(path);
        assert.doesNotMatch(text, /Account of/, path);
      }
    });

    test("the pages take no script but their own, and are not kept", async (t) => {
      const { visitor, landed } = await arrive(t);
      const policy = landed.headers.get("content-security-policy");
      assert.match(policy, /default-src 'none'; script-src 'self';/);
      assert.equal(landed.headers.get("cache-control"), "no-store");
      assert.doesNotMatch(landed.text, /<script(?![^>]*src=)|style=|onclick=/);
      for (const path of ["style.css", "page.mjs", "browser.mjs"]) {
        assert.equal((await visitor.get(`/2fa/${path}`)).status, 200);
      }
      assert.equal((await visitor.get("/2fa/constructor")).status, 404);
      assert.equal((await visitor.get("/2fa/")).status, 404);
    });

    test("the browser is known again, and has a budget of its own", async (t) => {
      const { visitor, id, phone } = await arrive(t);
      await pass(visitor, phone);
      const known = visitor.cookies["twofold-browser"];
      assert.ok(known);
      for (let guess = 0; guess < 12; guess += 1) {
        await client.verify(id, { code: String(guess).padStart(6, "0") }).catch(() => {});
      }
      const stranger = new Visitor(visitor.url);
      await stranger.get(`/magic/${id}`);
      const throttled = await stranger.post("/2fa/challenge", { "twofold-code": phone.code() });
      assert.equal(throttled.status, 429);
      assert.match(throttled.text, /Please wait \d+ s\. .*three codes/);
      assert.ok(Number(throttled.headers.get("retry-after")) >= 1);
      await visitor.get("/forget-me");
      await visitor.get(`/magic/${id}`);
      assert.match((await pass(visitor, phone)).text, /Account of/);
    });

    test("Twofold's own pages take the place of these", async (t) => {
      const { visitor, id, phone } = await arrive(t, { door: null, returnTo: RETURN_TO });
      const away = await visitor.get(`/magic/${id}`);
      assert.match(away.headers.get("refresh"), /^0; url=http/);
      assert.match((await visitor.get(await answerPrompt(away, phone))).text, /Account of/);

      // The form is held up, and sent by the person who is back.
      const held = await visitor.post("/transfer", { amount: "5" });
      const proven = await visitor.get(await answerPrompt(held, phone));
      assert.match(proven.text, /POST \/transfer/);
      assert.equal((await visitor.post("/transfer", proven.fields)).text, "Sent 5");
      assert.match((await visitor.post("/transfer", proven.fields)).headers.get("refresh"), /prompt/);

      const thief = new Visitor(visitor.url, { "connect.sid": visitor.cookies["connect.sid"] });
      assert.match((await thief.get("/account")).headers.get("refresh"), /prompt/);
    });

    test("the code of a prompt counts where it was asked for, once", async (t) => {
      const { visitor, id, phone } = await arrive(t, { door: null, returnTo: RETURN_TO });
      const back = await answerPrompt(await visitor.get(`/magic/${id}`), phone);
      const thief = new Visitor(visitor.url, { "connect.sid": visitor.cookies["connect.sid"] });
      const taken = await thief.get(back);
      assert.equal(taken.status, 403);
      assert.match(taken.text, /belongs elsewhere/);
      // It was handed in there, so it is void.
      assert.doesNotMatch((await visitor.get(back)).text, /Account of/);
      assert.match((await visitor.get("/account")).headers.get("refresh"), /prompt/);
      assert.match((await visitor.get("/2fa/back?error=access_denied")).text, /Nothing has happened/);
    });

    test("a recovery code is taken where a code is", async (t) => {
      const { visitor, id } = await arrive(t);
      const { recovery_codes: [code] } = await admin.renewRecoveryCodes(id);
      const landed = await visitor.post("/2fa/challenge", { "twofold-code": code, next: "/account" });
      assert.match(landed.text, /Account of/);
    });

    test("without a session it says what is missing", async (t) => {
      const app = express();
      const { secondFactor } = await import("@twofold/client/express");
      app.use(secondFactor({ client, person: () => "alice" }));
      app.use((error, req, res, next) => res.status(500).send(error.message));
      assert.match((await new Visitor(await listen(t, app)).get("/")).text, /needs request\.session/);
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
}

/** Show the app on Twofold's own pages; the path by which the browser comes back. */
async function answerPrompt(away, phone) {
  const url = new URL(/url=(.+)/.exec(away.headers.get("refresh"))[1]);
  const there = new Visitor(url.origin);
  const asked = await there.get(url.pathname);
  const action = /<form[^>]*action="([^"]+)"(?:(?!<\/form>)[^])*name="code"/.exec(asked.text)[1];
  const done = await there.post(action, { ...asked.fields, code: phone.code() }, { headers: { origin: url.origin } });
  const back = new URL(/url=(.+)/.exec(done.headers.get("refresh"))[1]);
  assert.ok(back.href.startsWith(RETURN_TO));
  return back.pathname + back.search;
}

function secretOn({ text }) {
  return /<code id="secret">([^<]+)</.exec(text)[1].replaceAll(" ", "");
}
