// A phone, a person with a browser that knows cookies but runs no script, and the server that the tests were given.

import { createHmac, randomBytes } from "node:crypto";
import { once } from "node:events";
import { Twofold } from "@twofold/client";

const { TWOFOLD_URL: url, TWOFOLD_KEY: key, TWOFOLD_ADMIN_KEY: adminKey, TWOFOLD_NOW_S } = process.env;
if (!url) throw new Error("run tests/clients/test_js.py: it starts a server for these tests");

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

export const options = { url, key };
export const client = new Twofold(options);
export const admin = new Twofold({ url, key: adminKey });

let people = 0;
/** An account id that no other test has. */
export const newPerson = () => `person-${process.pid}-${(people += 1)}`;

/** An authenticator app (RFC 6238). The server's clock stands still; three codes in a row are good at any moment. */
export class Phone {
  #next = -1;

  constructor(secret) {
    const bits = [...secret].map((letter) => ALPHABET.indexOf(letter).toString(2).padStart(5, "0")).join("");
    this.seed = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  }

  /** A code that was not shown before. */
  code() {
    const counter = Buffer.alloc(8);
    counter.writeBigUInt64BE(BigInt(Math.floor(Number(TWOFOLD_NOW_S) / 30) + this.#next));
    this.#next += 1;
    const mac = createHmac("sha1", this.seed).update(counter).digest();
    const number = mac.readUInt32BE(mac[19] & 0xf) & 0x7fffffff;
    return String(number % 1_000_000).padStart(6, "0");
  }
}

/** A new account with an authenticator app. */
export async function enrolled(id = newPerson()) {
  const secret = [...randomBytes(32)].map((byte) => ALPHABET[byte & 31]).join("");
  await admin.putAccount(id);
  const { id: authenticatorId } = await admin.addAuthenticator(id, { factor: "totp", secret, confirmed: true });
  return { id, authenticatorId, phone: new Phone(secret) };
}

/** Serve an Express application until the test is over; its address. */
export async function listen(test, app) {
  const server = app.listen(0, "127.0.0.1");
  await once(server, "listening");
  test.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://localhost:${server.address().port}`;
}

/** Somebody at a browser: follows redirects, keeps cookies, fills in forms. */
export class Visitor {
  constructor(url, cookies = {}) {
    this.url = url;
    this.cookies = { ...cookies };
  }

  async send(path, { method = "GET", form, json, headers = {}, follow = true } = {}) {
    const body = form ? new URLSearchParams(form).toString() : json === undefined ? undefined : JSON.stringify(json);
    const type = form ? "application/x-www-form-urlencoded" : "application/json";
    const cookie = Object.entries(this.cookies).map(([name, value]) => `${name}=${value}`).join("; ");
    const answer = await fetch(`${this.url}${path}`, {
      method: body === undefined ? method : "POST",
      body,
      redirect: "manual",
      headers: { accept: json === undefined ? "text/html" : "application/json", ...(cookie && { cookie }),
        ...(body === undefined ? {} : { "content-type": type }), ...headers },
    });
    for (const line of answer.headers.getSetCookie?.() ?? []) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line);
      this.cookies[name] = value;
    }
    const location = answer.headers.get("location");
    if (follow && location) {
      await answer.text();
      return this.send(location.replace(this.url, ""), { headers });
    }
    const text = await answer.text();
    return { status: answer.status, path, location, text, headers: answer.headers,
      get json() { return JSON.parse(text); }, fields: fieldsOf(text) };
  }

  get(path, more) { return this.send(path, more); }
  post(path, form, more) { return this.send(path, { form, ...more }); }
  call(path, json, more) { return this.send(path, { json, follow: false, ...more }); }
}

const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', "#39": "'" };
const plain = (text) => text.replace(/&(#?\w+);/g, (_, name) => ENTITIES[name]);

/** The hidden fields of a page's last form. */
function fieldsOf(text) {
  const form = text.slice(text.lastIndexOf("<form"));
  const inputs = form.matchAll(/<input type="hidden" name="([^"]*)" value="([^"]*)">/g);
  return Object.fromEntries([...inputs].map(([, name, value]) => [plain(name), plain(value)]));
}
