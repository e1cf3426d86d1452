// A page on its way to the browser, with the headers that let it do what it does and nothing more.

import { type Html, html } from "./html.js";
import { send } from "./http.js";
import type { Trouble } from "./judging.js";
import * as pages from "./pages.js";
import type { Visit } from "./visit.js";

const CONTENT_SECURITY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
  + "form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

export const lookOf = (visit: Visit): pages.Look => ({ ...visit.settings, base: visit.base });

/** Answer with a page; `found` is why it is shown again. */
export function show(visit: Visit, title: string, body: Html, found?: Trouble): void {
  const { response } = visit;
  response.setHeader("Cache-Control", "no-store");
  // In a layout of yours there may be more, so there yours stays in force.
  if (!visit.settings.layout) response.setHeader("Content-Security-Policy", CONTENT_SECURITY);
  // Without an origin of its own a form that comes back could not be told from another site's.
  response.setHeader("Referrer-Policy", "same-origin");
  if (found?.retryAfter !== undefined) response.setHeader("Retry-After", found.retryAfter);
  const text = pages.layOut(lookOf(visit), title, html`${pages.alert(found?.words ?? [])}${body}`);
  send(response, found?.status ?? 200, "text/html; charset=utf-8", text);
}
