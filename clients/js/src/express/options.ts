// What the application says once: who is signed in, and a few addresses.

import type { Twofold } from "../index.js";
import type { Look } from "./pages.js";
import type { Request } from "./http.js";
import { SENTENCES, type Sentences } from "./sentences.js";

export interface Person {
  /** The account at Twofold; the same as ever for this person. */
  id: string | number;
  /** Shown by authenticator apps and passkey managers. */
  name?: string | null | undefined;
}

/** Somebody, or nobody. */
export type Found = Person | Person["id"] | null | undefined | false;

/** The same, read. */
export interface Somebody {
  id: string;
  name: string | undefined;
}

/** Raises for what can be no id: it would be everybody's. */
export function readPerson(found: Found): Somebody | undefined {
  if (found === null || found === undefined || found === false) return undefined;
  const { id, name } = typeof found === "object" ? found : { id: found, name: undefined };
  if (typeof id === "string" ? id === "" : !Number.isSafeInteger(id)) throw new TypeError("person gives no id");
  return { id: String(id), name: name ?? undefined };
}

export interface Options<R extends Request = Request> {
  client: Twofold;
  /** Who is signed in by your own means, whatever the door was; behind "login as" the one who is really there. */
  person: (request: R) => Found | Promise<Found>;
  /** What the sign-in is bound to, where it is neither the session nor an `Authorization` header. */
  login?: (request: R) => string | undefined;
  /** Who must have a second factor. Whoever has one is always asked for it. */
  require?: (person: Somebody, request: R) => boolean | Promise<boolean>;
  /** Where the pages are. */
  prefix?: string;
  /** Your own pages that people reach while they are asked: to sign in, and to sign out by a link. */
  loginUrl?: string;
  signOutUrl?: string;
  /** Requests that the gate does not stand before. */
  exempt?: (request: R) => boolean;
  /** Twofold's own pages instead of these: the address that the key was made with (`--return-to`), `<prefix>/back`. */
  returnTo?: string;
  /** How long what Twofold said of an account is believed: a revocation is noticed within this time. */
  believedMs?: number;
  name?: string;
  language?: string;
  sentences?: Partial<Sentences>;
  stylesheet?: string;
  layout?: Look["layout"];
  /** Whatever kept the gate shut though it is nobody's answer, for your log. */
  onError?: (error: unknown) => void;
}

/** What may be left out, and stays so. */
type Left = "login" | "returnTo" | "stylesheet" | "layout";

export type Settings = Required<Omit<Options<any>, Left | "sentences">> & Pick<Options<any>, Left> & { sentences: Sentences };

export function complete({ sentences, ...given }: Options<any>): Settings {
  return {
    require: () => false,
    prefix: "/2fa",
    loginUrl: "/login",
    signOutUrl: "/sign-out",
    exempt: () => false,
    believedMs: 5_000,
    name: "",
    language: "en",
    onError: console.error,
    ...defined(given),
    sentences: { ...SENTENCES, ...sentences },
  };
}

/** Without members that are there and undefined: they would take the place of the defaults. */
function defined<T extends object>(given: T): T {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as T;
}
