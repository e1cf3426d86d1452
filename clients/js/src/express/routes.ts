// The pages and calls under the prefix: challenge, enroll, fresh for people; verify and passkey for programs.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { AccountAnswer } from "../schema.js";
import { html } from "./html.js";
import { type Fields, Problem, isForeign, localPath, mediaType, readBody, redirect, send, sendJson } from "./http.js";
import {
  FRESH, MANAGE, SIGN_IN, type Trouble, isTrouble, judge, openChallenge, readAnswer, readCredential, trouble,
  troubleOf,
} from "./judging.js";
import * as pages from "./pages.js";
import { comeBack, sendToPrompt } from "./prompts.js";
import { lookOf, show } from "./showing.js";
import { STYLE } from "./style.js";
import { type Visit, epochIn } from "./visit.js";

/** A receipt for that is good for five minutes. */
const STEP_UP_MS = 240_000;

const NAME_MAX = 128;

type Route = (visit: Visit, fields: Fields) => Promise<void>;

const FILES: Record<string, () => [string, string]> = {
  "/style.css": () => ["text/css", STYLE],
  "/page.mjs": () => ["text/javascript", readScript("page.mjs")],
  "/browser.mjs": () => ["text/javascript", readScript("browser.mjs")],
};

const ROUTES: Record<string, Record<string, Route>> = {
  "/challenge": { GET: showChallenge, POST: takeChallenge },
  "/enroll": { GET: showChoice, POST: enroll },
  "/fresh": { GET: showFresh, POST: takeFresh },
  "/back": { GET: comeBack },
  "/verify": { POST: verify },
  "/passkey": { POST: askForPasskey },
};

const readScript = (name: string): string => readFileSync(join(__dirname, "..", name), "utf8");

/** Answer a request below the prefix; `path` is what follows it. */
export async function serve(visit: Visit, path: string): Promise<void> {
  const { request, response } = visit;
  const method = request.method === "HEAD" ? "GET" : (request.method ?? "");
  const file = FILES[path];
  if (file && method === "GET") {
    response.setHeader("Cache-Control", "public, max-age=3600");
    response.setHeader("X-Content-Type-Options", "nosniff");
    const [type, text] = file();
    return send(response, 200, type, text);
  }
  const route = Object.hasOwn(ROUTES, path) ? ROUTES[path]?.[method] : undefined;
  if (!route) throw new Problem(404, "not_found", "there is nothing here");
  const isJson = path === "/verify" || path === "/passkey";
  if (method === "POST") {
    // Of another site's page neither a form nor a script gets this far.
    if (isForeign(request)) throw new Problem(403, "foreign", "another site sent this");
    if (isJson && mediaType(request) !== "application/json") {
      throw new Problem(415, "unsupported_media_type", "send application/json");
    }
  }
  if (!visit.person && route !== comeBack) {
    if (isJson) throw new Problem(401, "unauthorized", "nobody is signed in");
    return redirect(response, visit.mount + visit.settings.loginUrl);
  }
  return route(visit, method === "POST" ? ((await readBody(request)) ?? {}) : queryOf(visit));
}

function queryOf({ request }: Visit): Fields {
  return Object.fromEntries(new URL(request.originalUrl, "http://here").searchParams);
}

const pageOf = (visit: Visit, name: string, next: string): string =>
  `${visit.base}/${name}?next=${encodeURIComponent(next)}`;

async function showChallenge(visit: Visit, fields: Fields, found?: Trouble): Promise<void> {
  const next = localPath(fields["next"]);
  const closed = await visit.closed();
  if (closed !== "challenge") return redirect(visit.response, closed ? pageOf(visit, "enroll", next) : next);
  const say = visit.settings.sentences;
  if (visit.settings.returnTo && !found) return sendToPrompt(visit, { purpose: SIGN_IN, action: SIGN_IN, next });
  const asking = {
    to: `${visit.base}/challenge`,
    fields: [["next", next]] as [string, string][],
    passkey: await openChallenge(visit, SIGN_IN, SIGN_IN),
    takesCode: true,
    takesThree: found?.ways.includes("three_codes") ?? false,
  };
  const signOut = html`<p><a href="${visit.mount}${visit.settings.signOutUrl}">${say.sign_out}</a></p>`;
  const body = html`<p>${say.challenge_lead}</p>${pages.ask(lookOf(visit), asking, say.challenge_send)}${signOut}`;
  show(visit, say.challenge_title, body, found);
}

async function takeChallenge(visit: Visit, fields: Fields): Promise<void> {
  const next = localPath(fields["next"]);
  const ended = await judge(visit, readAnswer(fields), SIGN_IN, SIGN_IN);
  if (isTrouble(ended)) {
    if (ended.code === "no_factor") await visit.account({ isFresh: true });
    return showChallenge(visit, fields, ended);
  }
  visit.pass(ended.factor, ended.authenticator_id, epochIn(ended.receipt));
  redirect(visit.response, ended.reenroll_by === undefined ? next : pageOf(visit, "enroll", next));
}

/** What can be set up; where there is something already, one shows that first. */
async function showChoice(visit: Visit, fields: Fields, found?: Trouble): Promise<void> {
  const next = localPath(fields["next"]);
  const closed = await visit.closed();
  if (closed === "challenge") return redirect(visit.response, pageOf(visit, "challenge", visit.request.originalUrl));
  const account = await visit.account();
  const say = visit.settings.sentences;
  if (isBound(account) && !stepUpOf(visit)) {
    const asking: pages.Asking = {
      to: `${visit.base}/enroll`,
      fields: [["next", next]],
      passkey: await openChallenge(visit, MANAGE, MANAGE),
      takesCode: true,
    };
    const body = html`<p>${say.enroll_prove}</p>${pages.ask(lookOf(visit), asking, say.challenge_send)}`;
    return show(visit, say.enroll_title, body, found);
  }
  if (visit.settings.returnTo && !isBound(account)) {
    await makeAccount(visit);
    return sendToPrompt(visit, { purpose: SIGN_IN, action: SIGN_IN, next }, { enroll: true });
  }
  const active = account?.authenticators.filter(({ state }) => state === "active") ?? [];
  const have = active.map(({ label, factor }) => label || factor);
  show(visit, say.enroll_title, pages.choose(lookOf(visit), next, have), found);
}

const isBound = (account: AccountAnswer | undefined): boolean => account !== undefined && account.state !== "empty";

/** The receipt that allows one more enrollment, while Twofold takes it. */
function stepUpOf(visit: Visit): string | undefined {
  const proof = visit.proof(MANAGE);
  return proof && Date.now() - proof.at < STEP_UP_MS ? (proof.receipt ?? undefined) : undefined;
}

async function enroll(visit: Visit, fields: Fields): Promise<void> {
  if ((await visit.closed()) === "challenge") return redirect(visit.response, pageOf(visit, "challenge", "/"));
  const { factor, authenticator } = fields;
  if (typeof authenticator === "string") return confirm(visit, fields, authenticator);
  const answered = readAnswer(fields);
  if (answered) {
    const ended = await judge(visit, answered, MANAGE, MANAGE);
    if (isTrouble(ended)) return showChoice(visit, fields, ended);
    visit.keepProof(MANAGE, ended);
    return redirect(visit.response, pageOf(visit, "enroll", localPath(fields["next"])));
  }
  if (factor !== "totp" && factor !== "webauthn") return showChoice(visit, fields);
  try {
    await begin(visit, fields, factor, stepUpOf(visit));
  } catch (error) {
    const found = troubleOf(visit, error);
    visit.forgetProof(MANAGE);
    const isNowhere = factor === "webauthn" && found.code === "invalid";
    await showChoice(visit, fields, isNowhere ? trouble(visit, 422, "no_passkeys") : found);
  }
}

async function makeAccount({ settings, somebody: { id, name } }: Visit): Promise<void> {
  await settings.client.putAccount(id, name === undefined ? {} : { display_name: name.slice(0, NAME_MAX) });
}

/** Begin an enrollment, or show again the one that this browser began. */
async function begin(
  visit: Visit, fields: Fields, factor: "totp" | "webauthn", stepUp: string | undefined, found?: Trouble,
): Promise<void> {
  const { client, sentences } = visit.settings;
  const { id } = visit.somebody;
  await makeAccount(visit);
  const account = await client.getAccount(id);
  // The same application gets the same secret again. Whoever else began that in this account may have seen it.
  const others = account.authenticators.filter((one) =>
    one.state === "pending" && one.factor === factor && one.id !== visit.begun?.id);
  for (const other of others) await client.deleteAuthenticator(id, other.id);
  const enrollment = await client.addAuthenticator(id, { factor, step_up: stepUp ?? null });
  visit.begin({ id: enrollment.id, factor, stepUp });
  const next = localPath(fields["next"]);
  if (enrollment.totp) {
    show(visit, sentences.totp_title, pages.showSecret(lookOf(visit), next, enrollment.id, enrollment.totp), found);
  } else {
    const made = pages.makePasskey(lookOf(visit), next, enrollment.id, enrollment.public_key ?? {});
    show(visit, sentences.passkey_title, made, found);
  }
}

async function confirm(visit: Visit, fields: Fields, authenticator: string): Promise<void> {
  const { client, sentences } = visit.settings;
  const { id } = visit.somebody;
  const { begun } = visit;
  if (begun?.id !== authenticator) return showChoice(visit, fields, trouble(visit, 409, "conflict"));
  const epoch = (await visit.account({ isFresh: true }))?.epoch;
  const credential = readCredential(fields);
  try {
    const proof = credential ? { credential: credential as never } : { code: String(fields["code"]) };
    const { recovery_codes } = await client.confirmAuthenticator(id, authenticator, proof);
    await visit.account({ isFresh: true });
    visit.forgetProof(MANAGE);
    visit.pass(begun.factor, authenticator, epoch);
    const next = localPath(fields["next"]);
    if (!recovery_codes) return redirect(visit.response, next);
    show(visit, sentences.recovery_title, pages.showRecoveryCodes(lookOf(visit), next, recovery_codes));
  } catch (error) {
    const found = troubleOf(visit, error);
    // It is still open when the answer was wrong, and only then.
    if (found.status !== 422) return showChoice(visit, fields, found);
    await begin(visit, fields, begun.factor, begun.stepUp, found);
  }
}

async function showFresh(visit: Visit, fields: Fields, found?: Trouble): Promise<void> {
  const next = localPath(fields["next"]);
  const closed = await visit.closed(true);
  if (closed) return redirect(visit.response, pageOf(visit, closed, visit.request.originalUrl));
  const atLeast = fields["at"] === "passkey" ? "passkey" : "code";
  if (visit.settings.returnTo && !found) {
    return sendToPrompt(visit, { purpose: FRESH, action: actionOf(next), next, atLeast });
  }
  const hidden: [string, string][] = [["next", next], ["at", atLeast]];
  await showProof(visit, actionOf(next), `${visit.base}/fresh`, hidden, atLeast, found);
}

/** The page that asks for a fresh proof; the form goes to `to` with these fields. */
export async function showProof(
  visit: Visit, action: string, to: string, fields: [string, string][], atLeast: string, found?: Trouble,
): Promise<void> {
  const say = visit.settings.sentences;
  const passkey = await openChallenge(visit, FRESH, action, atLeast);
  const takesCode = atLeast !== "passkey";
  const asking = { to, fields, passkey, takesCode, takesThree: found?.ways.includes("three_codes") ?? false };
  const none = !takesCode && !passkey && html`<p>${say.need_passkey}</p>
<p><a href="${visit.base}/enroll">${say.enroll_title}</a></p>`;
  const body = html`<p>${say.fresh_lead} <strong>${pages.inWords(action)}</strong></p>${none}${
    pages.ask(lookOf(visit), asking, say.fresh_send)}`;
  show(visit, say.fresh_title, body, found);
}

/** What a proof for looking at a page is for: its path. */
export const actionOf = (url: string): string => url.split("?", 1)[0] ?? url;

async function takeFresh(visit: Visit, fields: Fields): Promise<void> {
  const next = localPath(fields["next"]);
  if (await visit.closed(true)) return showFresh(visit, fields);
  const ended = await judge(visit, readAnswer(fields), FRESH, actionOf(next), String(fields["at"]));
  if (isTrouble(ended)) return showFresh(visit, fields, ended);
  visit.keepProof(actionOf(next), ended);
  redirect(visit.response, next);
}

/** `{code}` or `{challenge, credential}` opens the gate; with the `action` of a refusal it is the proof for that. */
async function verify(visit: Visit, fields: Fields): Promise<void> {
  const { action } = fields;
  const isFresh = typeof action === "string";
  if (isFresh && (await visit.closed(true))) throw new Problem(403, "second_factor_required", "first without action");
  const answered = readAnswer(fields, "");
  if (!answered) throw new Problem(422, "invalid", "send code as text, or codes, or challenge and credential");
  const ended = isFresh
    ? await judge(visit, answered, FRESH, action)
    : await judge(visit, answered, SIGN_IN, SIGN_IN);
  if (isTrouble(ended)) {
    if (ended.retryAfter !== undefined) visit.response.setHeader("Retry-After", ended.retryAfter);
    const { status, code, words, retryAfter, ways } = ended;
    const problem = { title: "Not verified", status, code, detail: words.join(" "), retry_after: retryAfter, ways };
    return sendJson(visit.response, status, problem);
  }
  if (isFresh) visit.keepProof(action, ended);
  else visit.pass(ended.factor, ended.authenticator_id, epochIn(ended.receipt));
  const { factor, recovery_codes_left, reenroll_by } = ended;
  sendJson(visit.response, 200, { verified: true, factor, recovery_codes_left, reenroll_by });
}

/** A challenge for the browser module: `{challenge, public_key}`. */
async function askForPasskey(visit: Visit, { action }: Fields): Promise<void> {
  const passkey = typeof action === "string"
    ? await openChallenge(visit, FRESH, action)
    : await openChallenge(visit, SIGN_IN, SIGN_IN);
  if (!passkey) throw new Problem(409, "no_factor", "there is no passkey for this application in this account");
  sendJson(visit.response, 200, { challenge: passkey.challenge, public_key: passkey.options });
}
