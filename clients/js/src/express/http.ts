// What the middleware needs of a request and an answer of Express 4 or 5: bodies, cookies, where it came from. Express
// itself is not imported, so there is nothing here that could be of another version than yours.

import type { IncomingMessage, ServerResponse } from "node:http";

export interface Request extends IncomingMessage {
  originalUrl: string;
  baseUrl: string;
  path: string;
  hostname: string;
  secure: boolean;
  ip?: string | undefined;
  body?: any;
  session?: any;
}

export type Next = (error?: unknown) => void;
export type Handler<R extends Request = Request> = (request: R, response: ServerResponse, next: Next) => void;
export type Fields = Record<string, unknown>;

/** An answer that a page or a program gets instead of what it asked for. */
export class Problem extends Error {
  constructor(readonly status: number, readonly code: string, detail: string) {
    super(detail);
  }
}

export const FORM = "application/x-www-form-urlencoded";
const JSON_TYPE = "application/json";
const BODY_BYTES_MAX = 64 * 1024;

export const wantsHtml = (request: Request): boolean => /\btext\/html\b/.test(request.headers.accept ?? "");
export const isReading = (request: Request): boolean => /^(GET|HEAD|OPTIONS)$/.test(request.method ?? "");

export function mediaType(request: Request): string {
  return (request.headers["content-type"] ?? "").split(";", 1)[0]?.trim().toLowerCase() ?? "";
}

/** Whether another site made the browser send this. Without any sign of a browser it is nobody's page. */
export function isForeign(request: Request): boolean {
  const site = request.headers["sec-fetch-site"];
  if (site !== undefined) return site !== "same-origin" && site !== "none";
  const { origin } = request.headers;
  if (origin === undefined) return false;
  return parseUrl(origin)?.hostname !== request.hostname;
}

/** The members of a form or of JSON, as your parser left them or else read here; undefined for other media types. */
export async function readBody(request: Request): Promise<Fields | undefined> {
  const type = mediaType(request);
  if (type !== FORM && type !== JSON_TYPE) return undefined;
  if (!request.readableDidRead) {
    const text = await readText(request);
    request.body = type === JSON_TYPE ? parseJson(text) : parseForm(text);
    // As body-parser marks it: a parser that comes later leaves it alone.
    Object.assign(request, { _body: true });
  }
  const { body } = request;
  return typeof body === "object" && body !== null && !Array.isArray(body) ? body : {};
}

async function readText(request: Request): Promise<string> {
  if (request.headers["content-encoding"]) throw new Problem(415, "unsupported_media_type", "not compressed, please");
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > BODY_BYTES_MAX) throw new Problem(413, "too_large", `at most ${BODY_BYTES_MAX} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function parseJson(text: string): unknown {
  try {
    return text ? JSON.parse(text) : {};
  } catch {
    throw new Problem(400, "bad_request", "this is no JSON");
  }
}

function parseForm(text: string): Fields {
  const form = new URLSearchParams(text);
  const fields: Fields = Object.create(null);
  for (const name of new Set(form.keys())) {
    const values = form.getAll(name);
    fields[name] = values.length === 1 ? values[0] : values;
  }
  return fields;
}

/** A form's members as a browser sends them, one pair a field: `a[b]` for members of members. */
export function flatten(fields: Fields): [string, string][] {
  const pairs: [string, string][] = [];
  const add = (name: string, value: unknown): void => {
    if (Array.isArray(value) && value.every((each) => typeof each !== "object")) {
      // Parsers make an array of a name that comes twice; of one that comes once if it says so.
      value.forEach((each) => add(value.length === 1 ? `${name}[]` : name, each));
    } else if (typeof value === "object" && value !== null) {
      Object.entries(value).forEach(([member, each]) => add(`${name}[${member}]`, each));
    } else {
      pairs.push([name, String(value ?? "")]);
    }
  };
  Object.entries(fields).forEach(([name, value]) => add(name, value));
  return pairs;
}

/** A cookie of ours; over https under a name that other hosts and plain http cannot set. */
export function readCookie(request: Request, name: string): string | undefined {
  const wanted = cookieName(request, name);
  for (const pair of (request.headers.cookie ?? "").split(";")) {
    const [key = "", ...rest] = pair.split("=");
    if (key.trim() === wanted) return rest.join("=").trim();
  }
  return undefined;
}

/** Set it for as many seconds; without them until the browser closes. The value is base64url. */
export function writeCookie(
  request: Request, response: ServerResponse, name: string, value: string, seconds?: number,
): void {
  const cookie = [`${cookieName(request, name)}=${value}`, "Path=/", "HttpOnly", "SameSite=Lax"];
  if (request.secure) cookie.push("Secure");
  if (seconds !== undefined) cookie.push(`Max-Age=${seconds}`);
  const before = response.getHeader("Set-Cookie");
  const others = before === undefined ? [] : Array.isArray(before) ? before : [String(before)];
  response.setHeader("Set-Cookie", [...others, cookie.join("; ")]);
}

const cookieName = (request: Request, name: string): string => (request.secure ? `__Host-${name}` : name);

/** A path of this application out of what an address says, and nothing that leads elsewhere. */
export function localPath(next: unknown): string {
  const url = typeof next === "string" && /^\/(?![/\\])/.test(next) ? parseUrl(next, "http://here") : undefined;
  return url?.origin === "http://here" && !url.pathname.startsWith("//") ? url.pathname + url.search : "/";
}

function parseUrl(text: string, base?: string): URL | undefined {
  try {
    return new URL(text, base);
  } catch {
    return undefined;
  }
}

export function send(response: ServerResponse, status: number, type: string, body: string): void {
  response.statusCode = status;
  response.setHeader("Content-Type", type);
  response.setHeader("Content-Length", Buffer.byteLength(body));
  response.end(body);
}

export function sendJson(response: ServerResponse, status: number, body: object): void {
  response.setHeader("Cache-Control", "no-store");
  send(response, status, status < 400 ? "application/json" : "application/problem+json", JSON.stringify(body));
}

/** 303: go there with a GET, whatever this was. */
export function redirect(response: ServerResponse, to: string): void {
  response.setHeader("Location", to);
  response.setHeader("Cache-Control", "no-store");
  send(response, 303, "text/plain", "");
}
