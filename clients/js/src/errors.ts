// What a call ends with when it does not end well. A wrong code is no error: it is an answer with `verified: false`.
//
//   TwofoldError
//   ├── Throttled     429: wait `retryAfter` seconds, or take one of `ways`
//   ├── Unavailable   503, a timeout, no answer, or one that is not Twofold's: nobody gets in meanwhile
//   └── Refused       everything else: the state does not allow it, or the call is wrong; `code` says what

import type { ProblemAnswer } from "./schema.js";

export type Way = NonNullable<ProblemAnswer["ways"]>[number];

/** `code` is stable and listed in the documentation (reasons); the message is for your log, never for the person. */
export class TwofoldError extends Error {
  /** The HTTP status; 0 where none came. */
  readonly status: number;
  readonly code: string;
  /** Seconds to wait, where waiting helps. */
  readonly retryAfter: number | undefined;
  /** How the person can go on although codes are throttled. */
  readonly ways: readonly Way[];
  /** The member of the body that is meant. */
  readonly field: string | undefined;

  constructor(problem: ProblemAnswer, cause?: unknown) {
    super(`${problem.code}: ${problem.detail}`, { cause });
    this.name = new.target.name;
    this.status = problem.status;
    this.code = problem.code;
    this.retryAfter = problem.retry_after ?? undefined;
    this.ways = problem.ways ?? [];
    this.field = problem.field ?? undefined;
  }
}

export class Throttled extends TwofoldError {}
export class Unavailable extends TwofoldError {}
export class Refused extends TwofoldError {}

/** The error of an answer that is none of the good ones. */
export function errorOf(status: number, problem: ProblemAnswer | undefined): TwofoldError {
  // Without a code of its own it was not Twofold who answered: a 404 of a proxy says nothing about an account.
  if (!problem) return unreachable(`an answer with status ${status} that is not Twofold's`, status);
  if (status === 429) return new Throttled(problem);
  return status >= 500 ? new Unavailable(problem) : new Refused(problem);
}

/** The error of a call that got no answer. */
export function unreachable(detail: string, status = 0, cause?: unknown): Unavailable {
  return new Unavailable({ title: "Unavailable", status, code: "unavailable", detail }, cause);
}
