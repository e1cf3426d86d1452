// One request of one person: who it is, what she has proven in this sign-in, and so whether the gate is open.
//
// What is proven stands in the application's session, and counts only with a cookie that was new at that moment: whoever
// planted or copied the session before gets nothing. It is bound to the sign-in: to a nonce that goes when nobody or
// somebody else is signed in, or to the token that the request came with.

import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import type { ServerResponse } from "node:http";
import { isIP } from "node:net";
import { type AccountAnswer, Unavailable, type VerifiedAnswer } from "../index.js";
import type { Accounts } from "./accounts.js";
import { type Request, readCookie, writeCookie } from "./http.js";
import { type Settings, type Somebody, readPerson } from "./options.js";

interface Passed {
  factor: string;
  authenticator: string;
  epoch: string | undefined;
}

/** A fresh proof for one act: good for looking while it is young, and for doing it once by its receipt. */
export interface Proof {
  at: number;
  /** A passkey that made sure who its user is. */
  isPasskey: boolean;
  receipt: string | null;
}

/** The enrollment that this sign-in began, with the receipt that allowed it. */
export interface Begun {
  id: string;
  factor: "totp" | "webauthn";
  stepUp: string | undefined;
}

/** What waits for the browser to come back from Twofold's pages. */
export interface Asked {
  verifier: string;
  state: string;
  purpose: string;
  action: string;
  next: string;
  atLeast?: string;
  /** The form that was held up. */
  form?: { to: string; fields: [string, string][] };
}

interface State {
  person: string;
  login: string;
  /** The digest of the cookie; what follows counts with that alone. */
  cookie?: string;
  passed?: Passed;
  proofs?: Record<string, Proof>;
  begun?: Begun;
  asked?: Asked;
}

/** What is in the way: nobody signed in, no second factor shown, or none set up. */
export type Closed = "sign_in" | "challenge" | "enroll";

const PROOFS_MAX = 8;
const BROWSER_S = 180 * 24 * 3_600;
const SESSION_KEY = "twofold";

export class Visit {
  private newCookie: string | undefined;

  private constructor(
    readonly request: Request,
    readonly response: ServerResponse,
    readonly settings: Settings,
    /** Where the gate is in the application: a router below it has a `baseUrl` of its own. */
    readonly mount: string,
    private readonly accounts: Accounts,
    readonly person: Somebody | undefined,
    private state: State | undefined,
  ) {}

  static async of(
    settings: Settings, accounts: Accounts, request: Request, response: ServerResponse, mount: string,
  ): Promise<Visit> {
    const visit = (person?: Somebody, state?: State): Visit =>
      new Visit(request, response, settings, mount, accounts, person, state);
    const person = readPerson(await settings.person(request));
    if (!person) {
      drop(request);
      return visit();
    }
    if (!request.session) throw new TypeError("secondFactor needs request.session: use a session before it");
    const login = settings.login?.(request) ?? tokenOf(request);
    const state: State | undefined = request.session[SESSION_KEY];
    const isSame = state?.person === person.id
      && (login === undefined ? state.login.startsWith("session:") : state.login === `token:${digest(login)}`);
    if (isSame) return visit(person, state);
    drop(request);
    // Kept in the session only when there is something to keep: most requests of programs bring no session back.
    const name = login === undefined ? `session:${randomName()}` : `token:${digest(login)}`;
    return visit(person, { person: person.id, login: name });
  }

  /** The person, on paths that are for somebody who is signed in. */
  get somebody(): Somebody {
    if (!this.person) throw new Error("nobody is signed in");
    return this.person;
  }

  get #state(): State {
    if (!this.state) throw new Error("nobody is signed in");
    return this.state;
  }

  /** Where the pages are, as the browser names it. */
  get base(): string {
    return this.mount + this.settings.prefix;
  }

  account({ isFresh = false } = {}): Promise<AccountAnswer | undefined> {
    return isFresh ? this.accounts.lookAgain(this.somebody.id) : this.accounts.look(this.somebody.id);
  }

  /** What keeps the gate shut; `must`: for a page that takes a second factor of everybody. */
  async closed(must = false): Promise<Closed | undefined> {
    if (!this.person) return "sign_in";
    let account = await this.account();
    if (this.#passed && !this.#hasPassed(account)) {
      // What is believed may be older than what was shown since.
      account = await this.account({ isFresh: true });
      if (!this.#hasPassed(account)) delete this.#state.passed;
    }
    if (account?.state === "unavailable") throw locked(this.person.id);
    if (account && account.state !== "empty") return this.#hasPassed(account) ? undefined : "challenge";
    return must || (await this.settings.require(this.person, this.request)) ? "enroll" : undefined;
  }

  get #passed(): Passed | undefined {
    return this.#isOurs ? this.state?.passed : undefined;
  }

  #hasPassed(account: AccountAnswer | undefined): boolean {
    const passed = this.#passed;
    if (!passed || !account || passed.epoch !== account.epoch) return false;
    // Recovery codes are not listed; whatever ends them is a new epoch.
    return passed.factor === "recovery_codes"
      || account.authenticators.some(({ id, state }) => id === passed.authenticator && state === "active");
  }

  get #isOurs(): boolean {
    const cookie = this.newCookie ?? readCookie(this.request, "twofold-here");
    return cookie !== undefined && isEqual(digest(cookie), this.state?.cookie ?? "");
  }

  /** The state, to keep something in it that nobody may see who had the session or the cookie before. */
  #renew(): State {
    const { person, login, ...kept } = this.#state;
    const ours = this.#isOurs ? kept : {};
    this.newCookie = randomName();
    writeCookie(this.request, this.response, "twofold-here", this.newCookie);
    this.state = { person, login, ...ours, cookie: digest(this.newCookie) };
    return this.#keep(this.state);
  }

  #keep(state: State): State {
    this.request.session[SESSION_KEY] = state;
    return state;
  }

  /** The second factor was shown, in this sign-in and this browser, under this epoch of the account. */
  pass(factor: string, authenticator: string, epoch: string | undefined): void {
    this.#renew().passed = { factor, authenticator, epoch };
  }

  /** Keep the value by which Twofold knows this browser: a budget of guesses of its own, and nothing else. */
  keepBrowser({ browser }: VerifiedAnswer): void {
    if (browser === null) return;
    writeCookie(this.request, this.response, "twofold-browser", encodeURIComponent(browser), BROWSER_S);
  }

  get context(): { ip?: string; user_agent?: string; browser?: string } {
    const browser = readCookie(this.request, "twofold-browser");
    const agent = this.request.headers["user-agent"];
    return {
      // Some proxies write a port or "unknown" there.
      ...(this.request.ip !== undefined && isIP(this.request.ip) ? { ip: this.request.ip } : {}),
      ...(agent === undefined ? {} : { user_agent: agent }),
      ...(browser === undefined ? {} : { browser: decode(browser) }),
    };
  }

  /** Ties an answer to this sign-in and to what it is given for. */
  bind(action: string): string {
    return digest(`${this.#keep(this.#state).login}\n${action}`);
  }

  /** A proof that was kept. */
  proof(action: string): Proof | undefined {
    return this.#isOurs ? this.#state.proofs?.[digest(action)] : undefined;
  }

  /** Keep a proof, at most a few of them: the oldest goes. */
  keepProof(action: string, { receipt, user_verified }: Pick<VerifiedAnswer, "receipt" | "user_verified">): void {
    const proof: Proof = { at: Date.now(), isPasskey: user_verified === true, receipt };
    const key = digest(action);
    const others = Object.entries(this.#state.proofs ?? {}).filter(([name]) => name !== key);
    this.#state.proofs = Object.fromEntries([...others.slice(1 - PROOFS_MAX), [key, proof]]);
  }

  /** The receipt of a proof, for whoever takes it first in this session. */
  takeReceipt(action: string): string | null {
    const proof = this.proof(action);
    const receipt = proof?.receipt ?? null;
    if (proof) proof.receipt = null;
    return receipt;
  }

  forgetProof(action: string): void {
    delete this.#state.proofs?.[digest(action)];
  }

  get begun(): Begun | undefined {
    return this.#isOurs ? this.#state.begun : undefined;
  }

  get asked(): Asked | undefined {
    return this.#isOurs ? this.#state.asked : undefined;
  }

  /** Remember what was asked at Twofold's pages; the answer counts in this browser alone. */
  ask(asked: Asked): void {
    this.#renew().asked = asked;
  }

  forgetAsked(): void {
    delete this.#state.asked;
  }

  /** Remember an enrollment, whose secret is for this browser alone. */
  begin(begun: Begun): void {
    this.#renew().begun = begun;
  }
}

/** The epoch that was in force when a receipt was made; it came from Twofold itself, so its signature adds nothing. */
export function epochIn(receipt: string | null): string | undefined {
  const claims = receipt?.split(".")[1];
  return claims === undefined ? undefined : JSON.parse(Buffer.from(claims, "base64url").toString()).epoch;
}

export function digest(text: string): string {
  return createHash("sha256").update(text).digest("base64url");
}

function drop(request: Request): void {
  if (request.session?.[SESSION_KEY]) delete request.session[SESSION_KEY];
}

export const randomName = (): string => randomBytes(32).toString("base64url");

function isEqual(one: string, other: string): boolean {
  return one.length === other.length && timingSafeEqual(Buffer.from(one), Buffer.from(other));
}

/** A program's own token is its sign-in: another one is another sign-in. */
function tokenOf(request: Request): string | undefined {
  const { authorization = "" } = request.headers;
  return /^(bearer|token) /i.test(authorization) ? authorization : undefined;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}

function locked(id: string): Unavailable {
  const detail = `account ${id} cannot be opened`;
  return new Unavailable({ title: "Unavailable", status: 503, code: "unavailable", detail });
}
