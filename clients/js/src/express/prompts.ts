// Twofold's own pages instead of these: the browser goes there and comes back with a code, which counts only with what
// waits for it in this sign-in and this browser.

import { Refused, type VerifiedAnswer } from "../index.js";
import { html } from "./html.js";
import { type Fields, redirect } from "./http.js";
import { SIGN_IN, type Trouble, isTrouble, trouble, troubleOf } from "./judging.js";
import * as pages from "./pages.js";
import { lookOf, show } from "./showing.js";
import { type Asked, type Visit, digest, epochIn, randomName } from "./visit.js";

/** Send the browser to Twofold. */
export async function sendToPrompt(
  visit: Visit, asked: Omit<Asked, "verifier" | "state">, { enroll = false } = {},
): Promise<void> {
  const { client, sentences, returnTo } = visit.settings;
  const { id } = visit.somebody;
  const waiting = { ...asked, verifier: randomName(), state: randomName() };
  const { url } = await client.openPrompt({
    account: id,
    return_to: returnTo ?? "",
    purpose: asked.purpose,
    binding: visit.bind(asked.action),
    code_challenge: digest(waiting.verifier),
    state: waiting.state,
    enroll,
  });
  visit.ask(waiting);
  // Not by a redirect: after a form your Content-Security-Policy may keep it inside your own address.
  visit.response.setHeader("Refresh", `0; url=${url}`);
  show(visit, sentences.challenge_title, html`<p><a class="button" href="${url}">${sentences.challenge_send}</a></p>`);
}

/** The browser is back. */
export async function comeBack(visit: Visit, fields: Fields): Promise<void> {
  const { code, state } = fields;
  const asked = visit.person && visit.asked?.state === state ? visit.asked : undefined;
  // Another tab may have asked since; what it asked stays open.
  if (asked) visit.forgetAsked();
  const ended = typeof code === "string" ? await redeem(visit, code, asked) : undefined;
  if (!visit.person) return redirect(visit.response, visit.mount + visit.settings.loginUrl);
  if (!asked || !ended) return turnBack(visit, ended ? "prompt_mismatch" : "access_denied", asked?.next);
  if (isTrouble(ended)) return turnBack(visit, ended.code, asked.next, ended.status);
  if (ended.account_id !== visit.somebody.id) return turnBack(visit, "prompt_mismatch", asked.next);
  if (asked.purpose === SIGN_IN) {
    visit.pass(ended.factor, ended.authenticator_id, epochIn(ended.receipt));
    return redirect(visit.response, asked.next);
  }
  if (asked.atLeast === "passkey" && !ended.user_verified) return turnBack(visit, "passkey_required", asked.next);
  visit.keepProof(asked.action, ended);
  if (!asked.form) return redirect(visit.response, asked.next);
  const say = visit.settings.sentences;
  show(visit, say.fresh_title, pages.sendOn(lookOf(visit), asked.form, asked.action));
}

/** Hand the code in, also one that was not asked for here: then it is void for whoever did ask. */
async function redeem(
  visit: Visit, code: string, asked: Asked | undefined,
): Promise<VerifiedAnswer | Trouble> {
  const binding = asked ? visit.bind(asked.action) : randomName();
  try {
    return await visit.settings.client.redeemPrompt({ code, code_verifier: asked?.verifier ?? randomName(), binding });
  } catch (error) {
    if (!visit.person && error instanceof Refused) return trouble(visit, error.status, error.code);
    return troubleOf(visit, error);
  }
}

function turnBack(visit: Visit, code: string, next = "/", status = 403): void {
  const say = visit.settings.sentences;
  const again = html`<p><a class="button" href="${next}">${say.again}</a></p>`;
  show(visit, say.challenge_title, again, trouble(visit, status, code));
}

