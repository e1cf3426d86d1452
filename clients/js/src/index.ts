// The API of a Twofold server, call by call. Names, bodies and answers are those of its OpenAPI document; what this adds
// is an Idempotency-Key with every POST that changes something, and with it repetition where that is safe.

import { randomUUID } from "node:crypto";
import { Refused, TwofoldError, errorOf, unreachable } from "./errors.js";
import { OPERATIONS } from "./schema.js";
import type { Operations, ProblemAnswer } from "./schema.js";

export * from "./errors.js";
export type * from "./schema.js";

export interface Options {
  /** Where the server is: `https://twofold.example.com`, without a path. */
  url: string;
  /** The API key: `tf_…`. */
  key: string;
  /** How long to wait for an answer, each time. */
  timeoutMs?: number;
  /** How often a call is made at most, where repeating it is safe. */
  attemptsMax?: number;
  /** What to call instead of the global `fetch`. */
  fetch?: typeof globalThis.fetch;
}

/** What may be said of one call besides its body. */
export interface CallOptions {
  /** For a POST: repeat it with the same key, and it happens once. A random one is made where you give none. */
  idempotencyKey?: string;
  signal?: AbortSignal;
}

type Name = keyof Operations;
type Body<N extends Name> = Operations[N]["body"];
type Answer<N extends Name> = Operations[N]["answer"];

interface Call<N extends Name> extends CallOptions {
  body?: Body<N>;
  query?: Operations[N]["query"];
  headers?: Record<string, string>;
}

/** Without a key these write nothing, so they can be called again anyway. */
const KEYLESS: ReadonlySet<Name> = new Set<Name>(["open_challenge", "open_prompt"]);
const FIRST_PAUSE_MS = 100;
const PAUSE_MS_MAX = 2_000;

/** One application's connection to a Twofold server. Every call may throw a `TwofoldError`. */
export class Twofold {
  readonly #origin: string;
  readonly #key: string;
  readonly #timeoutMs: number;
  readonly #attemptsMax: number;
  readonly #fetch: typeof globalThis.fetch;

  constructor({ url, key, timeoutMs = 5_000, attemptsMax = 3, fetch = globalThis.fetch }: Options) {
    const { origin, pathname, protocol } = new URL(url);
    // Below a wrong path every account would be "not found", and that reads as "no second factor".
    if (pathname !== "/" || !/^https?:$/.test(protocol)) throw new TypeError(`no address of a Twofold server: ${url}`);
    if (!key) throw new TypeError("an API key is needed: twofold apikey create NAME");
    this.#origin = origin;
    this.#key = key;
    this.#timeoutMs = timeoutMs;
    this.#attemptsMax = attemptsMax;
    this.#fetch = fetch;
  }

  /** Create an account, or change what is sent of it. */
  putAccount(id: string, body: Body<"put_account"> = {}, options?: CallOptions): Promise<Answer<"put_account">> {
    return this.#call("put_account", [id], { body, ...options });
  }

  /** An account and its authenticators; throws `Refused` with the code `not_found`. */
  getAccount(id: string, options?: CallOptions): Promise<Answer<"get_account">> {
    return this.#call("get_account", [id], { ...options });
  }

  /** A page of the accounts (scope admin). */
  listAccounts(
    query: Operations["list_accounts"]["query"] = {}, options?: CallOptions,
  ): Promise<Answer<"list_accounts">> {
    return this.#call("list_accounts", [], { query, ...options });
  }

  /** Remove an account and its rows (scope admin). */
  deleteAccount(id: string, options?: CallOptions): Promise<undefined> {
    return this.#call("delete_account", [id], { ...options });
  }

  /** Tell what happened to the account elsewhere: everything in force before is void. */
  recordEvent(id: string, body: Body<"record_event">, options?: CallOptions): Promise<undefined> {
    return this.#call("record_event", [id], { body, ...options });
  }

  /** Begin an enrollment, or import an authenticator (scope admin). */
  addAuthenticator(
    id: string, body: Body<"add_authenticator">, options?: CallOptions,
  ): Promise<Answer<"add_authenticator">> {
    return this.#call("add_authenticator", [id], { body, ...options });
  }

  /** End an enrollment; throws `Refused` with the reason as code where the answer does not confirm it. */
  confirmAuthenticator(
    id: string, authenticatorId: string, body: Body<"confirm_authenticator">, options?: CallOptions,
  ): Promise<Answer<"confirm_authenticator">> {
    return this.#call("confirm_authenticator", [id, authenticatorId], { body, ...options });
  }

  /** Give an authenticator another label. */
  renameAuthenticator(
    id: string, authenticatorId: string, body: Body<"rename_authenticator">, options?: CallOptions,
  ): Promise<Answer<"rename_authenticator">> {
    return this.#call("rename_authenticator", [id, authenticatorId], { body, ...options });
  }

  /** Remove an authenticator, or cancel its enrollment. An active one needs `stepUp`: a receipt for "manage". */
  deleteAuthenticator(
    id: string, authenticatorId: string, { stepUp, ...options }: CallOptions & { stepUp?: string } = {},
  ): Promise<undefined> {
    const headers = stepUp ? { "Twofold-Step-Up": stepUp } : {};
    return this.#call("delete_authenticator", [id, authenticatorId], { headers, ...options });
  }

  /** Make ten new recovery codes; the old ones are dead. */
  renewRecoveryCodes(
    id: string, body: Body<"renew_recovery_codes"> = {}, options?: CallOptions,
  ): Promise<Answer<"renew_recovery_codes">> {
    return this.#call("renew_recovery_codes", [id], { body, ...options });
  }

  /** Judge one answer. A no is an answer too: look at `verified`. */
  verify(id: string, body: Body<"verify">, options?: CallOptions): Promise<Answer<"verify">> {
    return this.#call("verify", [id], { body, ...options });
  }

  /** Ask for one of the account's passkeys. */
  openChallenge(id: string, body: Body<"open_challenge">, options?: CallOptions): Promise<Answer<"open_challenge">> {
    return this.#call("open_challenge", [id], { body, ...options });
  }

  /** Judge the answer to a challenge: look at `verified`, and compare `account_id` with whom you mean. */
  answerChallenge(body: Body<"answer_challenge">, options?: CallOptions): Promise<Answer<"answer_challenge">> {
    return this.#call("answer_challenge", [], { body, ...options });
  }

  /** Use a receipt up; throws `Refused` with the code `receipt_used` or `receipt_mismatch`. */
  redeemReceipt(body: Body<"redeem_receipt">, options?: CallOptions): Promise<Answer<"redeem_receipt">> {
    return this.#call("redeem_receipt", [], { body, ...options });
  }

  /** Have a person asked on Twofold's own pages: send her browser to `url`. */
  openPrompt(body: Body<"open_prompt">, options?: CallOptions): Promise<Answer<"open_prompt">> {
    return this.#call("open_prompt", [], { body, ...options });
  }

  /** What came of a prompt, by the code that the browser brought back: compare `account_id` with whom you mean. */
  redeemPrompt(body: Body<"redeem_prompt">, options?: CallOptions): Promise<Answer<"redeem_prompt">> {
    return this.#call("redeem_prompt", [], { body, ...options });
  }

  async #call<N extends Name>(name: N, ids: string[], call: Call<N>): Promise<Answer<N>> {
    const [method, template] = OPERATIONS[name];
    const url = new URL(fill(template, ids), this.#origin);
    for (const [member, value] of Object.entries(call.query ?? {})) url.searchParams.set(member, String(value));
    const headers: Record<string, string> = { Authorization: `Bearer ${this.#key}`, ...call.headers };
    if (call.body !== undefined) headers["Content-Type"] = "application/json";
    const key = call.idempotencyKey ?? (method === "POST" && !KEYLESS.has(name) ? randomUUID() : undefined);
    if (key !== undefined) headers["Idempotency-Key"] = key;
    const init = { method, headers, redirect: "error" as const, body: JSON.stringify(call.body) ?? null };
    for (let attempt = 1; ; attempt += 1) {
      try {
        return (await this.#send(url, init, call.signal)) as Answer<N>;
      } catch (error) {
        call.signal?.throwIfAborted();
        if (attempt >= this.#attemptsMax || !mayRepeat(error, method)) throw error;
        await pause(error as TwofoldError, attempt);
      }
    }
  }

  async #send(url: URL, init: RequestInit, signal: AbortSignal | undefined): Promise<unknown> {
    const controller = new AbortController();
    const stop = () => controller.abort();
    const timer = setTimeout(stop, this.#timeoutMs);
    signal?.addEventListener("abort", stop);
    try {
      const fetch = this.#fetch;
      const response = await fetch(url, { ...init, signal: controller.signal });
      const text = await response.text();
      if (response.ok) return text ? JSON.parse(text) : undefined;
      const isProblem = response.headers.get("content-type")?.startsWith("application/problem+json");
      throw errorOf(response.status, isProblem ? (JSON.parse(text) as ProblemAnswer) : undefined);
    } catch (error) {
      if (error instanceof TwofoldError) throw error;
      throw unreachable(`no answer from ${this.#origin}`, 0, error);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", stop);
    }
  }
}

function fill(template: string, ids: string[]): string {
  const rest = [...ids];
  return template.replace(/\{\w+\}/g, () => {
    const id = rest.shift() ?? "";
    // A path would lose or split these, even if they are percent-encoded: then "not found" would say nothing of the id.
    if (/^\.{0,2}$|\//.test(id)) {
      throw new Refused({ title: "Unprocessable", status: 422, code: "invalid", detail: `no id: "${id}"`, field: "id" });
    }
    return encodeURIComponent(id);
  });
}

/** A busy server did nothing. Where it is not known how it ended, only what can happen twice is repeated. */
function mayRepeat(error: unknown, method: string): boolean {
  if (!(error instanceof TwofoldError)) return false;
  if (error.code === "busy") return true;
  return (error.status === 0 || error.code === "outcome_unknown") && method !== "DELETE";
}

function pause({ retryAfter }: TwofoldError, attempt: number): Promise<void> {
  const wait = retryAfter === undefined ? FIRST_PAUSE_MS * 2 ** attempt : retryAfter * 1_000;
  return new Promise((resolve) => setTimeout(resolve, Math.min(wait, PAUSE_MS_MAX)));
}
