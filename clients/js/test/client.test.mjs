// The API client, over a real server; what a server does only under stress is told by a `fetch` of the test's own.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { test } from "node:test";
import { Refused, Throttled, Twofold, TwofoldError, Unavailable } from "@twofold/client";
import { Phone, admin, client, enrolled, newPerson, options } from "./kit.mjs";

const { OPERATIONS } = createRequire(import.meta.url)("../dist/schema.js");
const camel = (name) => name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());

/** A client whose server gives these answers, one after the other, and what it was sent. */
function told(...answers) {
  const sent = [];
  const fetch = async (url, init) => {
    sent.push({ url: String(url), ...init });
    const answer = answers[Math.min(sent.length, answers.length) - 1];
    if (answer instanceof Error) throw answer;
    const { status, body, type = status < 400 ? "application/json" : "application/problem+json" } = answer;
    return new Response(body === undefined ? null : JSON.stringify(body), { status, headers: { "content-type": type } });
  };
  return { client: new Twofold({ ...options, fetch }), sent };
}

const problem = (status, code, more = {}) => ({ status, body: { title: "No", status, code, detail: "why", ...more } });
const account = { status: 200, body: { id: "alice" } };

test("every call of the document has a method of its name", () => {
  const methods = Object.getOwnPropertyNames(Twofold.prototype).filter((name) => name !== "constructor");
  assert.deepEqual(methods.sort(), Object.keys(OPERATIONS).map(camel).sort());
});

test("somebody enrolls an app, signs in with it, and a receipt is good once", async () => {
  const id = newPerson();
  assert.equal((await client.putAccount(id, { display_name: "Ann" })).state, "empty");
  const pending = await client.addAuthenticator(id, { factor: "totp", label: "phone" });
  const phone = new Phone(pending.totp.secret);
  const confirmed = await client.confirmAuthenticator(id, pending.id, { code: phone.code() });
  assert.equal(confirmed.recovery_codes.length, 10);

  const verified = await client.verify(id, { code: phone.code(), purpose: "transfer", binding: "4711" });
  assert.equal(verified.verified, true);
  assert.equal(verified.factor, "totp");
  const asked = { receipt: verified.receipt, purpose: "transfer", binding: "4711" };
  await assert.rejects(client.redeemReceipt({ ...asked, binding: "4712" }), { code: "receipt_mismatch", status: 403 });
  assert.equal((await client.redeemReceipt(asked)).account_id, id);
  await assert.rejects(client.redeemReceipt(asked), { name: "Refused", code: "receipt_used", status: 409 });
});

test("a wrong code is an answer and no error", async () => {
  const { id, phone } = await enrolled();
  const right = phone.code();
  assert.deepEqual(await client.verify(id, { code: "000000" }), { verified: false, reason: "wrong_code" });
  assert.equal((await client.verify(id, { code: right })).verified, true);
  assert.equal((await client.verify(id, { code: right })).reason, "code_already_used");
});

test("an account is read, listed, changed, secured anew and deleted", async () => {
  const { id, authenticatorId, phone } = await enrolled();
  const before = await client.getAccount(id);
  assert.deepEqual(before.authenticators.map((one) => one.id), [authenticatorId]);
  assert.equal((await admin.renameAuthenticator(id, authenticatorId, { label: "tablet" })).label, "tablet");
  assert.equal((await admin.renewRecoveryCodes(id)).recovery_codes.length, 10);
  const listed = await admin.listAccounts({ factor: "totp", state: "active" });
  assert.ok(listed.accounts.some((one) => one.id === id));
  await client.recordEvent(id, { type: "password_changed" });
  assert.notEqual((await client.getAccount(id)).epoch, before.epoch);

  await assert.rejects(client.deleteAuthenticator(id, authenticatorId), { code: "step_up_required", status: 403 });
  const { receipt } = await client.verify(id, { code: phone.code(), purpose: "manage" });
  await client.deleteAuthenticator(id, authenticatorId, { stepUp: receipt });
  assert.equal((await client.getAccount(id)).state, "empty");
  await admin.deleteAccount(id);
  await assert.rejects(client.getAccount(id), { name: "Refused", code: "not_found", status: 404 });
});

test("a challenge for a passkey is refused where there is none", async () => {
  const { id } = await enrolled();
  await assert.rejects(client.openChallenge(id, { factor: "webauthn" }), { code: "no_factor", status: 409 });
  const answer = { challenge: "x", credential: { id: "x", type: "public-key", response: {} } };
  await assert.rejects(client.answerChallenge(answer), TwofoldError);
});

test("the same key makes it happen once, and another body is refused", async () => {
  const { id, phone } = await enrolled();
  const body = { code: phone.code() };
  const first = await client.verify(id, body, { idempotencyKey: "once" });
  assert.equal(first.verified, true);
  assert.deepEqual(await client.verify(id, body, { idempotencyKey: "once" }), first);
  await assert.rejects(client.verify(id, { code: "1" }, { idempotencyKey: "once" }), { code: "idempotency_mismatch" });
});

test("guessing ends in Throttled, which says how long and what else works", async () => {
  const { id } = await enrolled();
  let ended;
  for (let guess = 0; guess < 12 && !(ended instanceof Throttled); guess += 1) {
    ended = await client.verify(id, { code: String(guess).padStart(6, "0") }).catch((error) => error);
  }
  assert.ok(ended instanceof Throttled);
  assert.equal(ended.code, "throttled");
  assert.ok(ended.retryAfter >= 1);
  assert.ok(ended.ways.includes("three_codes"));
});

test("a wrong key is Refused, and is not in what is printed", async () => {
  const wrong = new Twofold({ ...options, key: "tf_wrong_secret" });
  await assert.rejects(wrong.getAccount("alice"), { name: "Refused", code: "unauthorized", status: 401 });
  assert.doesNotMatch((await import("node:util")).inspect(wrong, { showHidden: true, depth: 5 }), /secret/);
});

test("a busy server is asked again, with the same key", async () => {
  const { client, sent } = told(problem(503, "busy"), { status: 200, body: { verified: true } });
  assert.equal((await client.verify("alice", { code: "1" })).verified, true);
  const keys = sent.map(({ headers }) => headers["Idempotency-Key"]);
  assert.equal(keys.length, 2);
  assert.equal(keys[0], keys[1]);
  assert.match(keys[0], /^[0-9a-f-]{36}$/);
});

test("what writes nothing without a key is sent without one", async () => {
  const { client, sent } = told({ status: 200, body: {} }, { status: 200, body: {} }, { status: 200, body: {} });
  await client.openPrompt({});
  await client.openChallenge("alice", { factor: "webauthn" });
  await client.openPrompt({}, { idempotencyKey: "mine" });
  assert.deepEqual(sent.map(({ headers }) => headers["Idempotency-Key"]), [undefined, undefined, "mine"]);
});

test("a call that got no answer is repeated where that is safe, and only there", async () => {
  const lost = new TypeError("fetch failed");
  const calls = {
    verify: (c) => c.verify("alice", { code: "1" }), getAccount: (c) => c.getAccount("alice"),
    openChallenge: (c) => c.openChallenge("alice", { factor: "webauthn" }),
  };
  for (const call of Object.values(calls)) {
    const { client, sent } = told(lost, problem(503, "outcome_unknown"), account);
    assert.equal((await call(client)).id, "alice");
    assert.equal(sent.length, 3);
  }
  const { client, sent } = told(lost, account);
  await assert.rejects(client.deleteAccount("alice"), { name: "Unavailable", code: "unavailable", status: 0 });
  assert.equal(sent.length, 1);
});

test("what waiting does not help is not repeated", async () => {
  const answers = [problem(503, "unavailable"), problem(429, "throttled", { retry_after: 9 }), problem(409, "no_factor")];
  for (const answer of answers) {
    const { client, sent } = told(answer);
    await assert.rejects(client.verify("alice", { code: "1" }), { code: answer.body.code });
    assert.equal(sent.length, 1);
  }
});

test("a server that never answers is Unavailable after a while", async () => {
  const fetch = (_, { signal }) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  const slow = new Twofold({ ...options, fetch, timeoutMs: 5, attemptsMax: 1 });
  await assert.rejects(slow.getAccount("alice"), Unavailable);
});

test("whoever calls can stop it", async () => {
  const controller = new AbortController();
  const fetch = (_, { signal }) => {
    setImmediate(() => controller.abort());
    return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  };
  const stopped = new Twofold({ ...options, fetch });
  await assert.rejects(stopped.getAccount("alice", { signal: controller.signal }), { name: "AbortError" });
});

test("an answer that is not Twofold's says nothing about an account", async () => {
  const { client } = told({ status: 404, type: "text/html", body: "Not here" });
  await assert.rejects(client.getAccount("alice"), { name: "Unavailable", status: 404 });
});

test("ids go into the path as they are, and none leads elsewhere", async () => {
  const { client, sent } = told(account);
  await client.getAccount("ann..bob?x=1#é");
  assert.equal(new URL(sent[0].url).pathname, "/api/v1/accounts/ann..bob%3Fx%3D1%23%C3%A9");
  for (const id of ["", ".", "..", "ann/verify"]) await assert.rejects(async () => client.getAccount(id), Refused);
});

test("an address with a path, or no key, is refused at once", () => {
  assert.throws(() => new Twofold({ ...options, url: `${options.url}/api` }), TypeError);
  assert.throws(() => new Twofold({ ...options, key: "" }), TypeError);
});
