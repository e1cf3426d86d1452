// The pages: forms that work without a script, but for passkeys. What they say is in `sentences`, what they look like in
// `style`, whose variables a stylesheet of yours may set; `layout` puts them into pages of yours.

import { type Html, type Piece, html } from "./html.js";
import type { Sentences } from "./sentences.js";

export interface Look {
  sentences: Sentences;
  language: string;
  /** Where the pages are in the application. */
  base: string;
  /** Your name, in the title. */
  name: string;
  stylesheet?: string | undefined;
  layout?: ((page: { title: string; head: string; body: string; language: string }) => string) | undefined;
}

/** What the browser is asked for, and the challenge that it answers. */
export interface Passkey {
  kind: "add" | "show";
  options: object;
  challenge?: string;
}

/** A form that asks for a proof. */
export interface Asking {
  to: string;
  /** Fields that go along unchanged, as pairs. */
  fields: [string, string][];
  passkey?: Passkey | undefined;
  takesCode: boolean;
  takesThree?: boolean;
}

export function layOut(look: Look, title: string, body: Html): string {
  const head = html`<link rel="stylesheet" href="${look.base}/style.css">${look.stylesheet &&
    html`<link rel="stylesheet" href="${look.stylesheet}">`}<script type="module" src="${look.base}/page.mjs"></script>`;
  const inside = html`<main class="twofold"><h1>${title}</h1>${body}</main>`;
  if (look.layout) return look.layout({ title, head: head.text, body: inside.text, language: look.language });
  return html`<!doctype html>
<html lang="${look.language}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,"><title>${title}${look.name && ` · ${look.name}`}</title>${head}</head>
<body>${inside}</body></html>`.text;
}

export function alert(words: string[]): Piece {
  return words.length > 0 && html`<p class="alert" role="alert">${words.join(" ")}</p>`;
}

const hidden = (name: string, value: string): Html => html`<input type="hidden" name="${name}" value="${value}">`;

function codeField(label: string, name: string, isFirst = true): Html {
  return html`<label for="${name}">${label}</label>
<input id="${name}" name="${name}" class="code" autocomplete="one-time-code" autocapitalize="characters"
spellcheck="false" required${isFirst && html` autofocus`}>`;
}

/** What the browser module may say. */
const TROUBLES = [
  "cancelled", "already_registered", "replaced", "wrong_address", "insecure", "unsupported", "failed",
] as const;

function passkeyForm(look: Look, { to, fields }: Asking, passkey: Passkey): Html {
  const say = look.sentences;
  const words = Object.fromEntries(TROUBLES.map((key) => [key, say[key]]));
  const { kind, options, challenge } = passkey;
  return html`<form method="post" action="${to}" data-passkey="${kind}" data-options="${JSON.stringify(options)}"
data-words="${JSON.stringify(words)}" hidden>${fields.map(([name, value]) => hidden(name, value))}${
    challenge && hidden("twofold-challenge", challenge)}${hidden("twofold-credential", "")}
<button>${kind === "add" ? say.passkey_make : say.passkey_use}</button><p class="alert" role="alert" hidden></p></form>`;
}

/** Asks for a proof: the passkey first, because it cannot be phished. */
export function ask(look: Look, asking: Asking, send: string): Html {
  const say = look.sentences;
  const rest = asking.fields.map(([name, value]) => hidden(name, value));
  return html`${asking.passkey && passkeyForm(look, asking, asking.passkey)}${asking.takesCode &&
    html`<form method="post" action="${asking.to}">${rest}
${codeField(say.challenge_code, "twofold-code", !asking.passkey)}
<button>${send}</button></form>`}${asking.takesThree &&
    html`<form method="post" action="${asking.to}">${rest}${codeField(say.challenge_codes, "twofold-codes", false)}
<button>${send}</button></form>`}`;
}

/** The form that was held up, to be sent now that there is a proof for it. */
export function sendOn(look: Look, { to, fields }: Pick<Asking, "to" | "fields">, action: string): Html {
  const say = look.sentences;
  return html`<p>${say.fresh_lead} <strong>${inWords(action)}</strong></p>
<form method="post" action="${to}">${fields.map(([name, value]) => hidden(name, value))}
<button autofocus>${say.fresh_send}</button></form>`;
}

/** The method and the address of an action, without the digest of what is sent. */
export const inWords = (action: string): string => action.split(" ").slice(0, 2).join(" ");

/** The choice of what to enroll. */
export function choose(look: Look, next: string, have: string[]): Html {
  const say = look.sentences;
  return html`<p>${say.enroll_lead}</p>${have.length > 0 && html`<p>${say.enroll_have}: ${have.join(", ")}</p>`}
<form method="post" action="${look.base}/enroll">${hidden("next", next)}
<ul class="choices"><li><button name="factor" value="totp">${say.enroll_totp}</button><p>${say.enroll_totp_why}</p></li>
<li><button name="factor" value="webauthn">${say.enroll_passkey}</button><p>${say.enroll_passkey_why}</p></li></ul></form>`;
}

/** The QR code and the key, and the field for the first code. */
export function showSecret(
  look: Look, next: string, id: string, { secret, uri, qr_png }: { secret: string; uri: string; qr_png: string },
): Html {
  const say = look.sentences;
  const groups = secret.replace(/(.{4})(?=.)/g, "$1 ");
  return html`<p><a href="${uri}"><img src="${qr_png}" alt="${say.totp_title}" class="qr"></a></p>
<p>${say.totp_lead}<br><code id="secret">${groups}</code></p>
<form method="post" action="${look.base}/enroll">${hidden("next", next)}${hidden("authenticator", id)}${
    codeField(say.totp_code, "code")}<button>${say.totp_send}</button></form>`;
}

export function makePasskey(look: Look, next: string, id: string, options: object): Html {
  const fields: [string, string][] = [["next", next], ["authenticator", id]];
  const asking = { to: `${look.base}/enroll`, fields, takesCode: false };
  return html`<p>${look.sentences.enroll_passkey_why}</p>${passkeyForm(look, asking, { kind: "add", options })}
<p><a href="${look.base}/enroll">${look.sentences.back}</a></p>`;
}

export function showRecoveryCodes(look: Look, next: string, codes: string[]): Html {
  const say = look.sentences;
  return html`<p>${say.recovery_lead}</p>
<ul class="recovery-codes">${codes.map((code) => html`<li class="recovery-code">${code}</li>`)}</ul>
<p><a class="button" href="${next}">${say.recovery_done}</a></p>`;
}
