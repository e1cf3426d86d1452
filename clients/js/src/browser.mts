// For the page: ask the browser for a passkey, and tidy what somebody typed. Takes the browser's own JSON options as
// the Twofold API gives them and returns the browser's own JSON; what carries them to your server is yours.

import type { ChallengeAnswerBody, ConfirmBody } from "./schema.js";

/** What the browser makes of a passkey that is new, and of one that is shown. */
export type NewCredential = NonNullable<ConfirmBody["credential"]>;
export type ShownCredential = ChallengeAnswerBody["credential"];

/** Why no passkey came; each is the name of a sentence that your page says. */
export type PasskeyTrouble =
  | "cancelled" // cancelled, too late, or nothing on this device fits: browsers do not tell which
  | "already_registered" // this device has a passkey of the account already
  | "replaced" // a later request took the place of this one, or it was aborted
  | "wrong_address" // the page is not at the address that the passkeys are for
  | "insecure" // the page came over plain http
  | "unsupported" // this browser has no passkeys, or not these
  | "failed";

export class PasskeyError extends Error {
  readonly key: PasskeyTrouble;

  constructor(key: PasskeyTrouble, cause?: unknown) {
    super(`no passkey: ${key}`, { cause });
    this.name = "PasskeyError";
    this.key = key;
  }
}

export interface AskOptions {
  signal?: AbortSignal;
}

type Json = { [member: string]: unknown };

const TROUBLES: Record<string, PasskeyTrouble> = {
  NotAllowedError: "cancelled",
  InvalidStateError: "already_registered",
  AbortError: "replaced",
  SecurityError: "wrong_address",
  NotSupportedError: "unsupported",
};

/** Whether this browser can be asked at all. */
export const hasPasskeys = (): boolean => typeof globalThis.PublicKeyCredential === "function";

/** Whether passkeys can be offered where a name is typed: call `showPasskey(…, { autofill: true })` then. */
export const hasAutofill = async (): Promise<boolean> =>
  hasPasskeys() && ((await PublicKeyCredential.isConditionalMediationAvailable?.()) ?? false);

/** Make a passkey; `options` is `public_key` of the enrollment, and what comes is its `credential`. */
export function addPasskey(options: Json, { signal }: AskOptions = {}): Promise<NewCredential> {
  return ask<NewCredential>(signal, (own) => {
    const publicKey =
      PublicKeyCredential.parseCreationOptionsFromJSON?.(options as never) ?? (toBytes(options) as never);
    return navigator.credentials.create({ publicKey, signal: own });
  });
}

/** Ask for a passkey; `options` is `prompt.public_key` of the challenge, and what comes is the `credential`. */
export function showPasskey(
  options: Json,
  { signal, autofill = false }: AskOptions & { autofill?: boolean } = {},
): Promise<ShownCredential> {
  return ask<ShownCredential>(signal, (own) => {
    const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON?.(options as never) ?? (toBytes(options) as never);
    return navigator.credentials.get({ publicKey, signal: own, ...(autofill ? { mediation: "conditional" } : {}) });
  });
}

// Browsers refuse a second request while one is open, and an offer for autofill stays open.
let running: AbortController | undefined;

async function ask<T>(
  signal: AbortSignal | undefined,
  start: (own: AbortSignal) => Promise<Credential | null>,
): Promise<T> {
  if (!hasPasskeys()) throw new PasskeyError(globalThis.isSecureContext ? "unsupported" : "insecure");
  running?.abort();
  const own = (running = new AbortController());
  const stop = () => own.abort();
  if (signal?.aborted) stop();
  signal?.addEventListener("abort", stop);
  try {
    const credential = await start(own.signal);
    if (!credential) throw new PasskeyError("failed");
    return toJson(credential as PublicKeyCredential) as T;
  } catch (error) {
    if (error instanceof PasskeyError) throw error;
    throw new PasskeyError(TROUBLES[(error as Error)?.name] ?? "failed", error);
  } finally {
    signal?.removeEventListener("abort", stop);
    if (running === own) running = undefined;
  }
}

// What follows is for browsers of before 2025, which have no JSON of their own.

const RESPONSE = ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"] as const;

function toBytes(options: Json): Json {
  return JSON.parse(JSON.stringify(options), function (this: Json, name, value) {
    // Of the members called id, the user's and the credentials' are bytes; the rp's is a domain.
    const isBytes = name === "challenge" || (name === "id" && ("type" in this || "displayName" in this));
    return isBytes ? fromBase64url(value) : value;
  });
}

function toJson(credential: PublicKeyCredential): unknown {
  try {
    return credential.toJSON();
  } catch {
    // There is none, or a password manager stands in for the browser and has not thought of it.
  }
  const given = credential.response as unknown as Record<string, ArrayBuffer | null | undefined> &
    Partial<Pick<AuthenticatorAttestationResponse, "getTransports">>;
  const response: Json = {};
  for (const name of RESPONSE) {
    const bytes = given[name];
    if (bytes) response[name] = toBase64url(bytes);
  }
  if (given.getTransports) response["transports"] = given.getTransports();
  return {
    id: credential.id,
    rawId: credential.id,
    type: credential.type,
    response,
    clientExtensionResults: credential.getClientExtensionResults(),
    ...(credential.authenticatorAttachment ? { authenticatorAttachment: credential.authenticatorAttachment } : {}),
  };
}

const fromBase64url = (text: string): Uint8Array =>
  Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (character) => character.charCodeAt(0));

const toBase64url = (bytes: ArrayBuffer): string =>
  btoa(Array.from(new Uint8Array(bytes), (byte) => String.fromCharCode(byte)).join(""))
    .replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");

/** A typed or pasted code without spaces and hyphens, and in the digits that the API takes, whatever the keyboard. */
export function tidyCode(text: string): string {
  return text.normalize("NFKC")
    .replace(/\p{Nd}/gu, (digit) => String(valueOf(digit)))
    .replace(/[\s\u200b\p{Dash}]/gu, "");
}

/** Each script has its ten digits in a row, so a digit is worth how many digits stand before it. */
function valueOf(digit: string): number {
  const point = digit.codePointAt(0) ?? 0;
  let value = 0;
  while (value < 9 && /\p{Nd}/u.test(String.fromCodePoint(point - value - 1))) value += 1;
  return value;
}

/** What a tidy code is by its look; undefined while it is not complete. */
export function kindOfCode(code: string): "code" | "recovery_code" | "yubikey" | undefined {
  if (/^\d{6,8}$/.test(code)) return "code";
  if (/^[cbdefghijklnrtuv]{44}$/.test(code)) return "yubikey";
  return /^[0-9a-z]{20}$/i.test(code) ? "recovery_code" : undefined;
}
