// What applications write, as the compiler sees it: it must be accepted as it stands, and the wrong lines refused.

import express4 from "express4";
import express5 from "express5";
import session from "express-session";
import { type AccountAnswer, Throttled, Twofold, type VerifyBody } from "@twofold/client";
import { type NewCredential, PasskeyError, addPasskey, showPasskey } from "@twofold/client/browser";
import { type Handler, secondFactor } from "@twofold/client/express";

declare module "express-session" {
  interface SessionData {
    user: string;
  }
}

const client = new Twofold({ url: "https://twofold.example.com", key: "tf_…" });

export function withExpress4(app: express4.Express): void {
  const twofold = secondFactor({ client, person: (request: express4.Request) => request.session.user });
  app.use(twofold);
  app.get("/vault", twofold.required(), (_request, response) => void response.send("Vault"));
}

export function withExpress5(app: express5.Express): void {
  const twofold = secondFactor({
    client,
    person: async (request: express5.Request) => ({ id: request.session.user ?? "", name: "Ann" }),
    require: (person) => person.id.startsWith("admin"),
    exempt: (request) => request.path === "/health",
    sentences: { wrong_code: "Falsch." },
  });
  app.use(session({ secret: "…" }), twofold);
  app.post("/transfer", twofold.fresh({ minutes: 5, atLeast: "passkey" }), (_request, response) => void response.json({}));
}

export const handler: Handler = secondFactor({ client, person: () => null });

export async function call(body: VerifyBody): Promise<string | number> {
  try {
    const answer = await client.verify("ann", body);
    return answer.verified ? answer.factor : answer.reason;
  } catch (error) {
    return error instanceof Throttled ? (error.retryAfter ?? 0) : String(error);
  }
}

export async function inBrowser(): Promise<[NewCredential, AccountAnswer["state"]] | string> {
  try {
    const pending = await client.addAuthenticator("ann", { factor: "webauthn" });
    const credential = await addPasskey(pending.public_key ?? {});
    await client.confirmAuthenticator("ann", pending.id, { credential });
    const { id: challenge, prompt } = await client.openChallenge("ann", { factor: "webauthn" });
    await client.answerChallenge({ challenge, credential: await showPasskey(prompt.public_key) });
    return [credential, (await client.getAccount("ann")).state];
  } catch (error) {
    return error instanceof PasskeyError ? error.key : "failed";
  }
}

// @ts-expect-error A code is a string: 012345 would lose its zero.
await client.verify("ann", { code: 123456 });
// @ts-expect-error There is no such event.
await client.recordEvent("ann", { type: "moved" });
// @ts-expect-error Members that the API does not know are refused by it.
await client.putAccount("ann", { nickname: "A" });
// @ts-expect-error The two words are "code" and "passkey".
secondFactor({ client, person: () => "ann" }).fresh({ atLeast: "password" });
