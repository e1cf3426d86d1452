// What Twofold says of accounts, believed for a moment: the gate stands before every request, and asks once in a while.

import { type AccountAnswer, Refused, type Twofold } from "../index.js";

interface Said {
  until: number;
  account: Promise<AccountAnswer | undefined>;
}

const REMEMBERED_MAX = 10_000;

export class Accounts {
  readonly #said = new Map<string, Said>();

  constructor(private readonly client: Twofold, private readonly believedMs: number) {}

  /** The account, undefined where there is none; throws what the client throws, and then nobody gets in. */
  look(id: string): Promise<AccountAnswer | undefined> {
    const said = this.#said.get(id);
    return said && Date.now() < said.until ? said.account : this.lookAgain(id);
  }

  /** The same, asked for now. */
  lookAgain(id: string): Promise<AccountAnswer | undefined> {
    const account = this.client.getAccount(id).catch((error: unknown) => {
      if (error instanceof Refused && error.code === "not_found") return undefined;
      this.#said.delete(id);
      throw error;
    });
    // The oldest makes room; a Map keeps the order.
    this.#said.delete(id);
    this.#said.set(id, { until: Date.now() + this.believedMs, account });
    for (const oldest of this.#said.keys()) {
      if (this.#said.size <= REMEMBERED_MAX) break;
      this.#said.delete(oldest);
    }
    return account;
  }
}
