// Asks for a passkey where a page says so, and sends the form with what came.

const FRESH_MS = 240_000; // An answer is taken for five minutes.
const Passkey = globalThis.PublicKeyCredential;
const each = (selector, act) => document.querySelectorAll(selector).forEach(act);

// For browsers without JSON of their own.
const toBytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt());
const toText = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes)))
  .replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");

const read = (json) => JSON.parse(json, function (name, value) {
  return name === "challenge" || (name === "id" && (this.type || this.displayName)) ? toBytes(value) : value;
});

function spell({ id, type, response }) {
  const members = ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]
    .filter((name) => response[name]).map((name) => [name, toText(response[name])]);
  return { id, type, response: { ...Object.fromEntries(members), transports: response.getTransports?.() } };
}

let running; // One at a time.

each("[data-passkey]", (place) => {
  const { dataset } = place, texts = JSON.parse(dataset.texts), isNew = dataset.passkey === "create";
  const form = place.closest("form"), button = place.querySelector("button");
  let { options } = dataset, oldAt = Date.now() + FRESH_MS, isOffered;

  function say(text) {
    const line = place.querySelector("[role=alert]"), { rp, rpId } = JSON.parse(options);
    line.hidden = false;
    line.lastChild.textContent = text.replace("{here}", location.origin).replace("{there}", rp?.id ?? rpId);
  }

  async function refresh() {
    const page = new DOMParser().parseFromString(await (await fetch(location)).text(), "text/html");
    const same = page.querySelector(`form[action="${form.getAttribute("action")}"] [data-passkey]`);
    if (!same) return location.replace(location);
    options = same.dataset.options;
    form.challenge.value = same.querySelector("[name=challenge]").value;
    return oldAt = Date.now() + FRESH_MS;
  }

  async function ask(mediation) {
    if (form.credential.value) return form.requestSubmit();
    running?.abort();
    const own = running = new AbortController();
    isOffered = mediation;
    button.ariaDisabled = !mediation;
    try {
      // Another tab may have added one.
      if ((isNew || Date.now() > oldAt) && !await refresh()) return;
      const parse = `parse${isNew ? "Creation" : "Request"}OptionsFromJSON`;
      const publicKey = Passkey[parse]?.(JSON.parse(options)) ?? read(options);
      const made = await navigator.credentials[isNew ? "create" : "get"]({ publicKey, signal: own.signal, mediation });
      form.credential.value = JSON.stringify(made.toJSON ? made : spell(made));
      form.noValidate = true; // No code.
      form.requestSubmit();
    } catch (problem) {
      if (own !== running || mediation) return;
      button.ariaDisabled = false;
      button.lastChild.textContent = texts.again;
      say(texts[problem.name] ?? texts.failed);
      offer();
    }
  }

  async function offer() {
    if (dataset.autofill && await Passkey.isConditionalMediationAvailable?.()) ask("conditional");
  }

  if (Passkey) {
    button.parentElement.hidden = false;
    button.onclick = () => ask();
    setInterval(() => isOffered && !document.hidden && Date.now() > oldAt && offer(), 9000);
    offer();
  } else if (!dataset.autofill) {
    say(isSecureContext ? texts.NotSupportedError : texts.insecure);
  }
});

if (Passkey) {
  each("[data-passkey-first]", (choice) => {
    choice.parentElement.querySelector(".choice").before(choice);
    choice.classList.add("is-recommended");
  });
  each("[data-passkey-able]", async (field) => {
    field.value = await Passkey.isUserVerifyingPlatformAuthenticatorAvailable() ? "yes" : "";
  });
  // Passkey managers forget what was removed.
  each("[data-signal]", ({ dataset }) => Object.entries(JSON.parse(dataset.signal))
    .forEach(([name, what]) => Passkey[name]?.(what).catch(() => {})));
}
