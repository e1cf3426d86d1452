// An application with the usual doors, none of which knows of the second factor, for both versions of Express.

import { describe } from "node:test";
import express4 from "express4";
import express5 from "express5";
import session from "express-session";
import helmet from "helmet";
import { secondFactor } from "@twofold/client/express";
import { Visitor, client, enrolled, listen } from "./kit.mjs";

export const CHALLENGE = /Show that it is you/;
export const RETURN_TO = "http://localhost/2fa/back";

export function eachExpress(define) {
  describe("Express 4", () => define(express4));
  describe("Express 5", () => define(express5));
}

/** A shop, and somebody with an app; signed in with the first factor by a door, unless it is null. */
export async function arrive(test, express, { door = "/magic", ...options } = {}) {
  const app = shop(express, options);
  const url = await listen(test, app);
  const person = await enrolled();
  const visitor = new Visitor(url);
  const landed = door && (await visitor.get(`${door}/${person.id}`));
  return { app, url, visitor, landed, ...person };
}

export const pass = (visitor, phone, next = "/account") =>
  visitor.post("/2fa/challenge", { "twofold-code": phone.code(), next });

export function shop(express, options = {}) {
  const app = express();
  const orders = [];
  const twofold = secondFactor({
    client,
    person: (req) => req.token?.user ?? req.session.impersonator ?? req.session.user,
    // Each test would wait for it otherwise.
    believedMs: 0,
    onError: () => {},
    ...options,
  });
  app.use(helmet(), session({ secret: "for tests", resave: false, saveUninitialized: false }));
  app.use(express.urlencoded({ extended: true }), express.json({ type: ["json", "+json"] }));
  app.use((req, res, next) => {
    const token = /^Bearer for-(.+)$/.exec(req.headers.authorization ?? "");
    if (token) req.token = { user: token[1] };
    next();
  });
  app.use(twofold);

  const signIn = (req, res, user) => {
    Object.assign(req.session, { user });
    res.redirect("/account");
  };
  app.get("/", (req, res) => res.send("Welcome, everybody"));
  app.get("/login", (req, res) => res.send("Sign in"));
  app.post("/login", (req, res) => signIn(req, res, req.body.user));
  app.post("/login-anew", (req, res) => req.session.regenerate(() => signIn(req, res, req.body.user)));
  app.get("/reset/:user", (req, res) => signIn(req, res, req.params.user));
  app.get("/magic/:user", (req, res) => signIn(req, res, req.params.user));
  app.get("/login-as/:user", (req, res) => {
    Object.assign(req.session, { impersonator: req.session.user, user: req.params.user });
    res.redirect("/account");
  });
  app.get("/sign-out", (req, res) => req.session.destroy(() => res.redirect("/")));
  app.get("/forget-me", (req, res) => {
    delete req.session.user;
    res.send("Signed out, but the session stays");
  });
  const account = (req, res) => res.send(`Account of ${req.token?.user ?? req.session.user}`);
  app.get("/account", account);
  app.get("/api/account", account);
  app.get("/vault", twofold.required(), (req, res) => res.send("Vault"));
  app.get("/keys", twofold.fresh({ minutes: 5 }), (req, res) => res.send("Keys"));
  app.post("/keys", twofold.fresh(), (req, res) => res.send(`Key ${orders.push(req.body)}`));
  app.get("/safe", twofold.fresh({ atLeast: "passkey" }), (req, res) => res.send("Safe"));
  app.all("/any", twofold.fresh(), (req, res) => res.send("Done"));
  app.post("/transfer", twofold.fresh(), (req, res) => {
    orders.push(req.body);
    res.send(`Sent ${req.body.amount}`);
  });
  const router = express.Router();
  router.post("/pay", twofold.fresh(), (req, res) => res.send(`Paid ${req.body.amount}`));
  app.use("/router", router);
  return Object.assign(app, { orders });
}
