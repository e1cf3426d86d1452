// The look of the pages. Set the variables in a stylesheet of yours to make it your own.

export const STYLE = `
.twofold {
  --twofold-ink: #182226; --twofold-paper: #fffefb; --twofold-line: #7f8a8c; --twofold-accent: #0c5c6b;
  --twofold-on-accent: #fff; --twofold-bad: #a5281f; --twofold-bad-soft: #fbe9e6;
  box-sizing: border-box; max-width: 26rem; margin: 2rem auto; padding: 1.5rem;
  font: 1rem/1.5 system-ui, sans-serif; color: var(--twofold-ink); background: var(--twofold-paper);
}
@media (prefers-color-scheme: dark) {
  :root { color-scheme: dark; }
  .twofold {
    --twofold-ink: #e9eeee; --twofold-paper: #192328; --twofold-line: #718088; --twofold-accent: #74c7d6;
    --twofold-on-accent: #06252c; --twofold-bad: #f59d92; --twofold-bad-soft: #43211f;
  }
}
.twofold [hidden] { display: none; }
.twofold h1 { font-size: 1.5rem; line-height: 1.2; margin: 0 0 1rem; }
.twofold form { margin: 1.25rem 0; }
.twofold label { display: block; margin-bottom: 0.25rem; font-weight: 600; }
.twofold input.code {
  box-sizing: border-box; width: 100%; min-height: 3rem; margin-bottom: 0.75rem; padding: 0.5rem 0.75rem;
  font: 1.25rem ui-monospace, monospace; letter-spacing: 0.05em; color: inherit; background: transparent;
  border: 1px solid var(--twofold-line); border-radius: 0.5rem;
}
.twofold button, .twofold .button {
  box-sizing: border-box; display: block; width: 100%; min-height: 3rem; padding: 0.6rem 1rem; text-align: center;
  font: inherit; font-weight: 600; text-decoration: none; cursor: pointer;
  color: var(--twofold-on-accent); background: var(--twofold-accent); border: 0; border-radius: 0.5rem;
}
.twofold :focus-visible { outline: 3px solid var(--twofold-accent); outline-offset: 2px; }
.twofold a { color: var(--twofold-accent); }
.twofold .alert {
  padding: 0.75rem 1rem; color: var(--twofold-bad); background: var(--twofold-bad-soft); border-radius: 0.5rem;
}
.twofold .qr { display: block; width: 14rem; max-width: 100%; margin: 0 auto; background: #fff; image-rendering: pixelated; }
.twofold code, .twofold .recovery-code { font: 1.05rem ui-monospace, monospace; overflow-wrap: anywhere; }
.twofold .choices, .twofold .recovery-codes { padding: 0; list-style: none; }
`;
