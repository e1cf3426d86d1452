// The pages of the Express middleware, over a real server: what they say, what they show, and to whom.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Phone, Visitor, admin, client, listen, newPerson } from "./kit.mjs";
import { arrive, CHALLENGE, eachExpress, pass, RETURN_TO, shop } from "./shop.mjs";

eachExpress((express) => {
  test("a wrong code leaves it shut, with a sentence, and a right one leads on", async (t) => {
    const { visitor, phone } = await arrive(t, express);
    const refused = await visitor.post("/2fa/challenge", { "twofold-code": "000000", next: "/vault" });
    assert.equal(refused.status, 422);
    assert.match(refused.text, /wrong or no longer valid/);
    assert.match((await visitor.get("/account")).text, CHALLENGE);
    assert.equal((await pass(visitor, phone, refused.fields.next)).text, "Vault");
  });

  test("the secret of an enrollment is not shown to another browser with the same session", async (t) => {
    const victim = new Visitor(await listen(t, shop(express)));
    await victim.get(`/magic/${newPerson()}`);
    const shown = await victim.post("/2fa/enroll", { factor: "totp" });
    const thief = new Visitor(victim.url, { "connect.sid": victim.cookies["connect.sid"] });
    assert.notEqual(secretOn(await thief.post("/2fa/enroll", { factor: "totp" })), secretOn(shown));
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
    const { visitor, phone } = await arrive(t, express);
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

  test("after the challenge it goes on inside the application only", async (t) => {
    const elsewhere = ["https://evil.example", "//evil.example", "/\\evil.example", "/x/..//evil.example", "javascript:1"];
    for (const next of elsewhere) {
      const { visitor, phone } = await arrive(t, express);
      const form = { "twofold-code": phone.code(), next };
      assert.equal((await visitor.post("/2fa/challenge", form, { follow: false })).location, "/");
    }
    const { visitor, phone, landed } = await arrive(t, express);
    assert.equal(landed.fields.next, "/account");
    const form = { "twofold-code": phone.code(), next: "/account?tab=2#x" };
    assert.equal((await visitor.post("/2fa/challenge", form, { follow: false })).location, "/account?tab=2");
  });

  test("the pages take no script but their own, and are not kept", async (t) => {
    const { visitor, landed } = await arrive(t, express);
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
    const { visitor, id, phone } = await arrive(t, express);
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
    const { visitor, id, phone } = await arrive(t, express, { door: null, returnTo: RETURN_TO });
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
    const { visitor, id, phone } = await arrive(t, express, { door: null, returnTo: RETURN_TO });
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

  test("what comes back and was not asked for leaves open what was", async (t) => {
    const { visitor, id, phone } = await arrive(t, express, { door: null, returnTo: RETURN_TO });
    const first = await visitor.get(`/magic/${id}`);
    const back = await answerPrompt(await visitor.get("/account"), phone);
    await visitor.get("/2fa/back?error=access_denied&state=of-another-site");
    assert.match((await visitor.get(await answerPrompt(first, phone))).text, /belongs elsewhere/);
    assert.match((await visitor.get(back)).text, /Account of/);
  });

  test("they take your words and stand in your layout", async (t) => {
    const layout = ({ title, head, body, language }) =>
      `<html lang="${language}">${head}<h2>My shop: ${title}</h2>${body}</html>`;
    const sentences = { challenge_title: "Wer da?", wrong_code: "Falsch & vorbei." };
    const options = { layout, language: "de", stylesheet: "/mine.css", sentences };
    const { visitor, landed } = await arrive(t, express, options);
    assert.match(landed.headers.get("content-security-policy"), /^default-src 'self'/);
    assert.match(landed.text, /<html lang="de">.*href="\/mine.css".*<h2>My shop: Wer da\?<\/h2>.*name="twofold-code"/s);
    const refused = await visitor.post("/2fa/challenge", { "twofold-code": "000000" });
    assert.match(refused.text, /Falsch &amp; vorbei\./);
  });

  test("a recovery code is taken where a code is", async (t) => {
    const { visitor, id } = await arrive(t, express);
    const { recovery_codes: [code] } = await admin.renewRecoveryCodes(id);
    const landed = await visitor.post("/2fa/challenge", { "twofold-code": code, next: "/account" });
    assert.match(landed.text, /Account of/);
  });
});

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
