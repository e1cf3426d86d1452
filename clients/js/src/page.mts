// On the pages of the Express middleware: lets the browser ask for a passkey, and sends the form with what came.

import { PasskeyError, addPasskey, hasPasskeys, showPasskey } from "./browser.mjs";

for (const form of document.querySelectorAll<HTMLFormElement>("form[data-passkey]")) {
  const { passkey, options = "{}", words = "{}" } = form.dataset;
  const line = form.querySelector<HTMLElement>("[role=alert]");
  const credential = form.elements.namedItem("twofold-credential") as HTMLInputElement;
  const say = (key: string): void => {
    if (!line) return;
    line.textContent = JSON.parse(words)[key];
    line.hidden = false;
  };
  // Where there are no passkeys the other ways are enough; where there is no other way, say why.
  form.hidden = !hasPasskeys() && passkey === "show";
  if (!hasPasskeys()) say(globalThis.isSecureContext ? "unsupported" : "insecure");
  form.addEventListener("submit", async (event) => {
    if (credential.value) return;
    event.preventDefault();
    if (line) line.hidden = true;
    try {
      const made = await (passkey === "add" ? addPasskey : showPasskey)(JSON.parse(options));
      credential.value = JSON.stringify(made);
      form.requestSubmit();
    } catch (error) {
      say(error instanceof PasskeyError ? error.key : "failed");
    }
  });
}
