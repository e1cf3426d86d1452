// The browser module, with a browser that the test makes up: one of today, and one that has no JSON of its own.

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import {
  PasskeyError, addPasskey, hasAutofill, hasPasskeys, kindOfCode, showPasskey, tidyCode,
} from "@twofold/client/browser";

const bytes = (...values) => new Uint8Array(values);
const CREATION = {
  challenge: "-_8", rp: { id: "shop.example", name: "Shop" }, user: { id: "AQI", name: "ann", displayName: "Ann" },
  pubKeyCredParams: [{ type: "public-key", alg: -7 }], excludeCredentials: [{ type: "public-key", id: "Aw" }],
};
const REQUEST = { challenge: "-_8", rpId: "shop.example", allowCredentials: [{ type: "public-key", id: "Aw" }] };

/** Stand in for the browser; `act` gets what the page asks for. */
function browser(act, statics = {}) {
  globalThis.PublicKeyCredential = Object.assign(function PublicKeyCredential() {}, statics);
  const credentials = { create: (options) => act(options), get: (options) => act(options) };
  Object.defineProperty(globalThis, "navigator", { value: { credentials }, configurable: true });
}

const refusing = (name) => () => Promise.reject(Object.assign(new Error("no"), { name }));

afterEach(() => {
  delete globalThis.PublicKeyCredential;
  delete globalThis.isSecureContext;
});

test("a browser of today speaks JSON itself", async () => {
  const asked = [];
  const parse = (json) => ({ parsed: json });
  const statics = { parseCreationOptionsFromJSON: parse, parseRequestOptionsFromJSON: parse };
  browser(async (options) => {
    asked.push(options);
    return { toJSON: () => ({ id: "Aw" }) };
  }, statics);
  assert.deepEqual(await addPasskey(CREATION), { id: "Aw" });
  assert.deepEqual(await showPasskey(REQUEST, { autofill: true }), { id: "Aw" });
  assert.deepEqual(asked.map(({ publicKey }) => publicKey.parsed), [CREATION, REQUEST]);
  assert.deepEqual(asked.map(({ mediation }) => mediation), [undefined, "conditional"]);
});

test("an older one gets bytes where they belong, and its answer is spelled as JSON", async () => {
  let asked;
  browser(async (options) => {
    asked = options.publicKey;
    const buffers = { clientDataJSON: bytes(1).buffer, attestationObject: bytes(251, 255).buffer };
    return {
      id: "Aw", type: "public-key", authenticatorAttachment: "platform", getClientExtensionResults: () => ({}),
      response: { ...buffers, getTransports: () => ["usb"] },
    };
  });
  assert.deepEqual(await addPasskey(CREATION), {
    id: "Aw", rawId: "Aw", type: "public-key", authenticatorAttachment: "platform", clientExtensionResults: {},
    response: { clientDataJSON: "AQ", attestationObject: "-_8", transports: ["usb"] },
  });
  assert.deepEqual(asked, {
    ...CREATION, challenge: bytes(251, 255), user: { ...CREATION.user, id: bytes(1, 2) },
    excludeCredentials: [{ type: "public-key", id: bytes(3) }],
  });
});

test("a password manager whose toJSON fails is spelled, too", async () => {
  browser(async () => ({
    id: "Aw", type: "public-key", getClientExtensionResults: () => ({}),
    response: {
      clientDataJSON: bytes(1).buffer, authenticatorData: bytes(2).buffer, signature: bytes(3).buffer, userHandle: null,
    },
    toJSON: () => { throw new TypeError("Illegal invocation"); },
  }));
  const { response } = await showPasskey(REQUEST);
  assert.deepEqual(response, { clientDataJSON: "AQ", authenticatorData: "Ag", signature: "Aw" });
});

test("each way to fail has the key of a sentence", async () => {
  const keys = {
    NotAllowedError: "cancelled", InvalidStateError: "already_registered", AbortError: "replaced",
    SecurityError: "wrong_address", NotSupportedError: "unsupported", TypeError: "failed",
  };
  for (const [name, key] of Object.entries(keys)) {
    browser(refusing(name));
    await assert.rejects(showPasskey(REQUEST), (error) => error instanceof PasskeyError && error.key === key);
  }
  browser(async () => null);
  await assert.rejects(showPasskey(REQUEST), { key: "failed" });
});

test("where there are no passkeys it says whether https is what is missing", async () => {
  assert.equal(hasPasskeys(), false);
  assert.equal(await hasAutofill(), false);
  globalThis.isSecureContext = false;
  await assert.rejects(addPasskey(CREATION), { key: "insecure" });
  globalThis.isSecureContext = true;
  await assert.rejects(addPasskey(CREATION), { key: "unsupported" });
});

test("a later request takes the place of an offer that is still open", async () => {
  const pending = ({ signal, mediation }) => mediation
    ? new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)))
    : Promise.resolve({ toJSON: () => ({ id: "Aw" }) });
  browser(pending, { isConditionalMediationAvailable: async () => true });
  assert.equal(await hasAutofill(), true);
  const offer = assert.rejects(showPasskey(REQUEST, { autofill: true }), { key: "replaced" });
  assert.deepEqual(await showPasskey(REQUEST), { id: "Aw" });
  await offer;
});

test("the page can stop it", async () => {
  browser(({ signal }) => (signal.aborted ? Promise.reject(signal.reason) : new Promise(() => {})));
  await assert.rejects(showPasskey(REQUEST, { signal: AbortSignal.abort() }), { key: "replaced" });
});

test("a code is tidied, whatever was typed", () => {
  assert.equal(tidyCode(" 123 456\n"), "123456");
  assert.equal(tidyCode("１２３-４５６"), "123456");
  assert.equal(tidyCode("١٢٣۴۵۶"), "123456");
  assert.equal(tidyCode("०९ ৯"), "099");
  assert.equal(tidyCode("ABCD–EFGH-1234‑5678-9XYZ"), "ABCDEFGH123456789XYZ");
});

test("a code is known by its look", () => {
  assert.equal(kindOfCode("12345"), undefined);
  assert.equal(kindOfCode("123456"), "code");
  assert.equal(kindOfCode("12345678"), "code");
  assert.equal(kindOfCode("0123456789ABCDEFGHJK"), "recovery_code");
  assert.equal(kindOfCode("cccccccfhcbe".padEnd(44, "r")), "yubikey");
});
