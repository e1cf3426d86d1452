// An application with the usual doors: none of them knows of the second factor. `express` is either version.

import session from "express-session";
import helmet from "helmet";
import { secondFactor } from "@twofold/client/express";
import { client } from "./kit.mjs";

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
  app.use(helmet(), session({ secret: "for tests", resave: false, saveUninitialized: false, genid: options.genid }));
  app.use(express.urlencoded({ extended: true }), express.json());
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
  app.post("/transfer", twofold.fresh(), (req, res) => {
    orders.push(req.body);
    res.send(`Sent ${req.body.amount}`);
  });
  return Object.assign(app, { orders });
}
