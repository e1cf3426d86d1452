// A second factor for an Express application (4 or 5), with a Twofold server behind it: one gate before every route.
//
//   const twofold = secondFactor({ client: new Twofold({ url, key }), person: (req) => req.session.user });
//   app.use(twofold);
//
// The gate goes by state, not by door: at each request the application says who is signed in, and whoever has a second
// factor gets no further until it was shown in this very sign-in, however that came about.

import { Refused, Throttled, TwofoldError } from "./errors.js";
import { Accounts } from "./express/accounts.js";
import { html } from "./express/html.js";
import {
  FORM, type Fields, type Handler, type Next, Problem, type Request,
  flatten, isForeign, isReading, mediaType, readBody, redirect, sendJson, wantsHtml,
} from "./express/http.js";
import { FRESH, PROOF_FIELDS, type Trouble, isTrouble, judge, readAnswer } from "./express/judging.js";
import { type Options, complete } from "./express/options.js";
import { sendToPrompt } from "./express/prompts.js";
import { actionOf, serve, showProof } from "./express/routes.js";
import type { Sentences } from "./express/sentences.js";
import { show } from "./express/showing.js";
import { type Closed, type Proof, Visit, digest } from "./express/visit.js";

export type { Handler, Options, Request };
export type { Found, Person, Somebody } from "./express/options.js";
export type { Sentences } from "./express/sentences.js";

export interface Fresh {
  /** How old a proof may be where something is only looked at. Doing something takes one of its own each time. */
  minutes?: number;
  atLeast?: "code" | "passkey";
}

export interface SecondFactor<R extends Request> extends Handler<R> {
  /** For a route that takes a second factor of everybody: whoever has none is led to set one up. */
  required(): Handler<R>;
  /** For a route that takes a fresh proof, bound to what is done. */
  fresh(demand?: Fresh): Handler<R>;
}

const JSON_MESSAGES: Record<Closed, [number, string, string]> = {
  sign_in: [401, "unauthorized", "nobody is signed in"],
  challenge: [403, "second_factor_required", "show the second factor: POST {\"code\"} to verify"],
  enroll: [403, "second_factor_required", "this person has to set up a second factor first"],
};

/** The gate. Use it after the session and whatever says who is signed in, and before the routes. */
export function secondFactor<R extends Request>(options: Options<R>): SecondFactor<R> {
  const settings = complete(options);
  const accounts = new Accounts(settings.client, settings.believedMs);

  // Where the gate is, for the handlers that come later in the same request.
  const mounts = new WeakMap<Request, string>();

  /** A handler that fails shut: what goes wrong in it is answered, and `next` is not called. */
  const handler = (act: (visit: Visit, next: Next) => Promise<void>): Handler<R> => (request, response, next) => {
    Visit.of(settings, accounts, request, response, mounts.get(request) ?? request.baseUrl)
      .then((visit) => act(visit, next).catch((error: unknown) => fail(visit, error)))
      .catch((error: unknown) => next(failure(error)));
  };

  const gate = handler(async (visit, next) => {
    const { path, baseUrl } = visit.request;
    mounts.set(visit.request, baseUrl);
    if (path === settings.prefix || path.startsWith(`${settings.prefix}/`)) {
      return serve(visit, path.slice(settings.prefix.length));
    }
    const isOpen = path === settings.loginUrl || path === settings.signOutUrl || settings.exempt(visit.request);
    const closed = isOpen || !visit.person ? undefined : await visit.closed();
    return closed ? turnAway(visit, closed) : next();
  });

  return Object.assign(gate, {
    required: () => handler(async (visit, next) => {
      const closed = await visit.closed(true);
      return closed ? turnAway(visit, closed) : next();
    }),
    fresh: ({ minutes = 5, atLeast = "code" }: Fresh = {}) => handler(async (visit, next) => {
      const closed = await visit.closed(true);
      if (closed) return turnAway(visit, closed);
      const demand = { minutes, atLeast };
      const isOpen = isReading(visit.request) ? await mayLook(visit, demand) : await mayAct(visit, demand);
      if (isOpen) next();
    }),
  });
}

/** Whether a young proof is there; else the way to give one is answered. */
async function mayLook(visit: Visit, demand: Required<Fresh>): Promise<boolean> {
  const action = actionOf(visit.request.originalUrl);
  if (isEnough(visit.proof(action), demand)) return true;
  if (wantsHtml(visit.request)) redirect(visit.response, freshUrl(visit, demand));
  else refuse(visit, action, demand);
  return false;
}

/** Whether a proof came with the request, or waits for it and is used up here; else it is asked for. */
async function mayAct(visit: Visit, demand: Required<Fresh>): Promise<boolean> {
  const { request } = visit;
  if (isForeign(request)) throw new Problem(403, "foreign", "another site sent this");
  const body = await readBody(request);
  const answered = body && readAnswer(body);
  for (const name of PROOF_FIELDS) delete body?.[name];
  const action = describe(request, body);
  const ended = answered && (await judge(visit, answered, FRESH, action, demand.atLeast));
  // The code or the challenge is used up with that: the same request again is asked anew.
  if (ended && !isTrouble(ended)) return true;
  for (const proven of ended ? [] : [action, actionOf(request.originalUrl)]) {
    if (await useUp(visit, proven, demand)) return true;
  }
  if (!wantsHtml(request)) refuse(visit, action, demand);
  // A file, or whatever else is no form, cannot be kept.
  else if (!body || mediaType(request) !== FORM) redirect(visit.response, freshUrl(visit, demand));
  else await askFor(visit, action, flatten(body), demand, ended);
  return false;
}

/** Keep the form until the proof for it comes. */
async function askFor(
  visit: Visit, action: string, fields: [string, string][], { atLeast }: Required<Fresh>, found?: Trouble,
): Promise<void> {
  // With two slashes it would be another host's.
  const to = visit.request.originalUrl.replace(/^\/+/, "/");
  if (visit.settings.returnTo && !found) {
    return sendToPrompt(visit, { purpose: FRESH, action, next: "/", atLeast, form: { to, fields } });
  }
  const unproven = { status: 403, code: "", words: [], retryAfter: undefined, ways: [] };
  await showProof(visit, action, to, fields, atLeast, found ?? unproven);
}

/** Use the receipt of a proof up at Twofold: of two requests that race for it one wins. */
async function useUp(visit: Visit, action: string, demand: Required<Fresh>): Promise<boolean> {
  const receipt = isEnough(visit.proof(action), demand) ? visit.takeReceipt(action) : null;
  if (receipt === null) return false;
  try {
    const asked = { receipt, purpose: FRESH, binding: visit.bind(action) };
    const { account_id } = await visit.settings.client.redeemReceipt(asked);
    return account_id === visit.somebody.id;
  } catch (error) {
    if (error instanceof Refused && /^receipt_/.test(error.code)) return false;
    throw error;
  }
}

function isEnough(proof: Proof | undefined, { minutes, atLeast }: Required<Fresh>): boolean {
  if (!proof || Date.now() - proof.at >= minutes * 60_000) return false;
  return atLeast !== "passkey" || proof.isPasskey;
}

const freshUrl = (visit: Visit, { atLeast }: Required<Fresh>): string =>
  `${visit.base}/fresh?at=${atLeast}&next=${encodeURIComponent(visit.request.originalUrl)}`;

/** What is done, to the last field: a proof for it is none for anything else. What your parser made of another media
 * type counts too; of a body that nobody has read yet nothing is known. */
function describe(request: Request, body: Fields | undefined): string {
  const content = mediaType(request) === FORM ? flatten(body ?? {}) : (request.body ?? "");
  return `${request.method} ${request.originalUrl} ${digest(JSON.stringify(content))}`;
}

function refuse(visit: Visit, action: string, demand: Required<Fresh>): void {
  const url = freshUrl(visit, demand);
  const detail = `prove it: POST {"code", "action"} to ${visit.base}/verify, then send this again`;
  sendJson(visit.response, 403, { title: "Forbidden", status: 403, code: "step_up_required", detail, action, url });
}

function turnAway(visit: Visit, closed: Closed): void {
  const { request, response, settings, base } = visit;
  const isPage = isReading(request);
  const next = isPage ? `?next=${encodeURIComponent(request.originalUrl)}` : "";
  const url = closed === "sign_in" ? visit.mount + settings.loginUrl : `${base}/${closed}${next}`;
  if (wantsHtml(request)) return redirect(response, url);
  const [status, code, detail] = JSON_MESSAGES[closed];
  sendJson(response, status, { title: "Forbidden", status, code, detail, url, verify: `${base}/verify` });
}

/** An error for `next`: without one, or with the word "route", Express would go on past the gate. */
function failure(error: unknown): Error {
  return error instanceof Error ? error : new Error("the second factor cannot be judged", { cause: error });
}

/** Nobody gets in, and the person hears why. */
function fail(visit: Visit, error: unknown): void {
  const { request, response, settings } = visit;
  if (response.headersSent) throw error;
  const { status, code, detail } = read(error);
  if (!(error instanceof Problem)) settings.onError(error);
  const sentence = settings.sentences[code as keyof Sentences] ?? settings.sentences.refused;
  if (!wantsHtml(request)) return sendJson(response, status, { title: sentence, status, code, detail });
  show(visit, sentence, html``, { status, code, words: [], retryAfter: undefined, ways: [] });
}

function read(error: unknown): { status: number; code: string; detail: string } {
  if (error instanceof Problem) return { status: error.status, code: error.code, detail: error.message };
  if (error instanceof Throttled) return { status: 429, code: error.code, detail: "too many at once" };
  if (error instanceof Refused && error.status >= 404) return { status: error.status, code: error.code, detail: "no" };
  // What is wrong with the key or the call is for the log.
  if (error instanceof TwofoldError) return { status: 503, code: "unavailable", detail: "codes cannot be checked now" };
  throw error;
}
