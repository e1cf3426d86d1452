// Comfort for the pages, and nothing that they need: copy, download, print, show a password, count down, send once.
// Texts come from the page (data attributes), so that this file speaks no language of its own.

// Inside another application these pages may speak a language of their own.
const language = document.querySelector(".twofold")?.lang || document.documentElement.lang;
const announcer = document.querySelector("[data-announce]");

function announce(text) {
  announcer.textContent = "";
  // A live region that is filled a moment later is read out even when the text is the same again.
  setTimeout(() => { announcer.textContent = text; }, 50);
}

function each(selector, act) {
  document.querySelectorAll(selector).forEach(act);
}

// Buttons that only this script can serve are hidden until it is here.
function offer(selector, act) {
  each(selector, (button) => {
    button.hidden = false;
    button.addEventListener("click", () => act(button));
  });
}

// ---- Secrets that are shown once ----

async function copy(button, source, text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // The browser does not want to: what was meant is selected, for the keys that copy.
    getSelection().selectAllChildren(source);
    return;
  }
  const label = button.querySelector("span");
  const before = label.dataset.before ??= label.textContent;
  label.textContent = button.dataset.said;
  announce(button.dataset.said);
  setTimeout(() => { label.textContent = before; }, 2000);
}

function linesOf(recovery) {
  return [...recovery.querySelectorAll("[data-line]")].map((line) => `${line.textContent.trim()}\n`).join("");
}

// The clipboard exists only where the connection is safe.
if (navigator.clipboard) {
  offer("[data-copy]", (button) => {
    const key = document.getElementById(button.dataset.copy);
    copy(button, key, key.textContent.replaceAll(" ", ""));
  });
  offer("[data-copy-codes]", (button) => {
    const recovery = button.closest("[data-recovery]");
    copy(button, recovery.querySelector("ol"), linesOf(recovery));
  });
}

offer("[data-download]", (button) => {
  const recovery = button.closest("[data-recovery]");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([linesOf(recovery)], { type: "text/plain" }));
  link.download = recovery.dataset.recovery;
  link.click();
  URL.revokeObjectURL(link.href);
  announce(button.dataset.said);
});

offer("[data-print]", () => print());

// ---- Forms ----

offer("[data-reveal]", (button) => {
  const box = document.getElementById(button.dataset.reveal);
  const shows = box.type === "password";
  box.type = shows ? "text" : "password";
  button.setAttribute("aria-pressed", String(shows));
  box.focus();
});

// A phone shows its letters at once, instead of leaving for the same page with letters.
each("[data-letters]", (link) => link.addEventListener("click", (event) => {
  event.preventDefault();
  const box = document.getElementById(link.dataset.letters);
  box.inputMode = "text";
  box.focus();
  link.hidden = true;
}));

// Whoever stopped a page that came slowly, or lost the connection, may send its form again: the server answers two of
// one form alike.
const SENT_MS = 8000;

each("form[data-once]", (form) => form.addEventListener("submit", (event) => {
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "yes";
  // Not `disabled`: the name and the value of the button belong to what is sent.
  event.submitter?.setAttribute("aria-disabled", "true");
  setTimeout(() => {
    delete form.dataset.sent;
    event.submitter?.removeAttribute("aria-disabled");
  }, SENT_MS);
  // Sent as a password again, so that no browser remembers it as an entry of a text box.
  form.querySelectorAll("[data-reveal]").forEach((button) => {
    document.getElementById(button.dataset.reveal).type = "password";
  });
}));

// Coming back to a page kept in memory: its form was sent and its secrets were shown, so the server is asked again.
addEventListener("pageshow", (event) => {
  if (event.persisted) {
    location.reload();
  }
});

const offline = document.querySelector("[data-offline]");
addEventListener("offline", () => {
  offline.hidden = false;
  announce(offline.textContent.trim());
});
addEventListener("online", () => { offline.hidden = true; });

// ---- Times ----

// As the server writes a duration: hours and minutes, or minutes and seconds, and never less than there is to wait.
function left(seconds) {
  const whole = seconds < 3600 ? seconds : Math.ceil(seconds / 60) * 60;
  const parts = [[Math.floor(whole / 3600), "hour"], [Math.floor(whole / 60) % 60, "minute"], [whole % 60, "second"]];
  const named = parts.filter(([count]) => count > 0);
  const words = (named.length > 0 ? named : parts.slice(-1)).map(([count, unit]) =>
    new Intl.NumberFormat(language, { style: "unit", unit, unitDisplay: "long" }).format(count));
  return new Intl.ListFormat(language).format(words);
}

each("[data-wait]", (place) => {
  const line = place.closest("[data-done]");
  const end = performance.now() + Number(place.dataset.wait) * 1000;
  const timer = setInterval(() => {
    const seconds = Math.max(0, Math.ceil((end - performance.now()) / 1000));
    place.textContent = left(seconds);
    if (seconds > 0) {
      return;
    }
    clearInterval(timer);
    if (line) {
      line.textContent = line.dataset.done;
      announce(line.dataset.done);
    }
  }, 1000);
});

// The exact time on hover, in the reader's own time zone.
const exact = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "long" });
each("time[title]", (time) => { time.title = exact.format(new Date(time.dateTime)); });

// What waited for a proof goes on by itself, once: whoever comes back here sends nothing again.
each("form[data-resume]", (form) => {
  if (performance.getEntriesByType("navigation")[0]?.type !== "back_forward") {
    // A field of the form may be called `submit`.
    HTMLFormElement.prototype.submit.call(form);
  }
});
