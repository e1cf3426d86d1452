// An answer on its way to Twofold, and what comes back in words: the one place where the pages, the JSON routes and
// `fresh` have an answer judged.

import { type ChallengeAnswerBody, Refused, Throttled, Unavailable, type VerifiedAnswer } from "../index.js";
import type { Fields } from "./http.js";
import type { Passkey } from "./pages.js";
import type { Sentences } from "./sentences.js";
import type { Visit } from "./visit.js";

export const SIGN_IN = "sign-in";
export const FRESH = "fresh";
export const MANAGE = "manage";

/** Why an answer did not count. */
export interface Trouble {
  status: number;
  code: string;
  words: string[];
  retryAfter: number | undefined;
  ways: readonly string[];
}

export interface Answered {
  code?: string;
  codes?: string[];
  challenge?: string;
  credential?: ChallengeAnswerBody["credential"];
}

/** The proof in a form (`twofold-code` …) or in JSON (`code` …); undefined where there is none. */
export function readAnswer(fields: Fields, prefix = "twofold-"): Answered | undefined {
  const { [`${prefix}code`]: code, [`${prefix}codes`]: codes, [`${prefix}challenge`]: challenge } = fields;
  const credential = readCredential(fields, prefix);
  if (typeof challenge === "string" && credential) return { challenge, credential };
  if (typeof codes === "string") return { codes: codes.match(/\d{6,8}/g) ?? [] };
  if (Array.isArray(codes)) return { codes: codes.map(String) };
  return typeof code === "string" ? { code } : undefined;
}

export const PROOF_FIELDS = ["twofold-code", "twofold-codes", "twofold-challenge", "twofold-credential"];

/** What the browser made of a passkey, as text in a form or as it is in JSON. */
export function readCredential(fields: Fields, prefix = "twofold-"): Answered["credential"] | undefined {
  const credential = fields[`${prefix}credential`];
  try {
    const value = typeof credential === "string" ? JSON.parse(credential) : credential;
    return typeof value === "object" && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Have an answer judged; a success names the person who is signed in, or it is none. */
export async function judge(
  visit: Visit, answered: Answered | undefined, purpose: string, action: string, atLeast = "code",
): Promise<VerifiedAnswer | Trouble> {
  const { client } = visit.settings;
  const { id } = visit.somebody;
  if (atLeast === "passkey" && !answered?.credential) return trouble(visit, 422, "passkey_required");
  if (!answered) return trouble(visit, 422, "wrong_code");
  const asked = { binding: visit.bind(action), context: visit.context };
  const { challenge, credential, ...codes } = answered;
  try {
    const answer = challenge !== undefined && credential
      ? await client.answerChallenge({ challenge, credential, ...asked })
      : await client.verify(id, { ...codes, purpose, ...asked });
    if (!answer.verified) return trouble(visit, 422, answer.reason, answer.retry_after);
    // The challenge came back from the page: it may be one of somebody else, answered by somebody else.
    if (challenge !== undefined && answer.account_id !== id) return trouble(visit, 422, "challenge_mismatch");
    // A key that was only touched is one factor, as a code is.
    if (atLeast === "passkey" && !answer.user_verified) return trouble(visit, 422, "uv_required");
    visit.keepBrowser(answer);
    return answer;
  } catch (error) {
    return troubleOf(visit, error);
  }
}

/** What a call ended with, in words; anything that is not between Twofold and the person is thrown again. */
export function troubleOf(visit: Visit, error: unknown): Trouble {
  if (error instanceof Throttled) return trouble(visit, 429, error.code, error.retryAfter, error.ways);
  if (error instanceof Unavailable) visit.settings.onError(error);
  if (error instanceof Unavailable) return trouble(visit, 503, "unavailable", error.retryAfter);
  // These are about the key and about this program.
  if (!(error instanceof Refused) || error.status <= 401 || error.code === "forbidden") throw error;
  return trouble(visit, error.status, error.code, error.retryAfter);
}

export const isTrouble = (ended: object): ended is Trouble => "words" in ended;

export function trouble(
  { settings: { sentences } }: Visit, status: number, code: string, retryAfter?: number, ways: readonly string[] = [],
): Trouble {
  const words = [sentences[code as keyof Sentences] ?? sentences.refused];
  if (retryAfter !== undefined) words.push(sentences.wait.replace("{seconds}", String(retryAfter)));
  words.push(...ways.filter((way) => way !== "known_browser").map((way) => sentences[way as keyof Sentences]));
  return { status, code, words, retryAfter, ways };
}

/** A challenge for the account's passkeys; undefined where there are none for this application. */
export async function openChallenge(
  visit: Visit, purpose: string, action: string, atLeast = "code",
): Promise<Passkey | undefined> {
  const account = await visit.account();
  if (!account?.authenticators.some(({ factor, state }) => factor === "webauthn" && state === "active")) return undefined;
  try {
    const { id } = visit.somebody;
    const user_verification = atLeast === "passkey" ? ("required" as const) : ("preferred" as const);
    const challenge = await visit.settings.client.openChallenge(id, {
      factor: "webauthn", purpose, binding: visit.bind(action), context: visit.context, user_verification,
    });
    return { kind: "show", options: challenge.prompt.public_key, challenge: challenge.id };
  } catch (error) {
    if (error instanceof Refused && (error.code === "no_factor" || error.code === "invalid")) return undefined;
    throw error;
  }
}
