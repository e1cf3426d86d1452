// An Express application with many doors, and a second factor behind each of them: `npm install`, `npm start`.
// It needs a Twofold server (TWOFOLD_URL) and a key: TWOFOLD_KEY=$(twofold apikey create shop --origin http://localhost:3000)
import { randomBytes, scryptSync, timingSafeEqual } from "node:crypto";
import { Twofold } from "@twofold/client";
import { secondFactor } from "@twofold/client/express";
import express from "express";
import { rateLimit } from "express-rate-limit";
import session from "express-session";
import helmet from "helmet";

const hash = (password, salt = randomBytes(16)) => Buffer.concat([salt, scryptSync(password, salt, 32)]);
const fits = (password, kept) => timingSafeEqual(hash(String(password), kept.subarray(0, 16)), kept);
const passwords = { alice: hash("correct horse"), root: hash("correct horse") };
const tokens = { "Bearer the-token-of-alice": "alice" };
const resets = { "mailed-to-alice": "alice" };
const kinds = { name: "autocomplete=username", password: "type=password autocomplete=current-password" };
const form = (to, button, ...names) => `<form method="post" action="${to}">${names.map((name) =>
  `<label>${name} <input name="${name}" ${kinds[name] ?? ""}></label>`).join("")}<button>${button}</button></form>`;
const page = (body) => `<!doctype html><html lang="en"><title>Shop</title><link rel="icon" href="data:,">${body}</html>`;

const app = express();
app.use(helmet(), express.urlencoded({ extended: false }));
app.use(session({ secret: randomBytes(32).toString("hex"), resave: false, saveUninitialized: false }));
app.post(["/login", "/reset/:link"], rateLimit({ windowMs: 60_000, limit: 30 }));

// By whatever door; behind "login as" the one who is really there.
const whoeverIsThere = ({ headers, session }) => tokens[headers.authorization] ?? session.impersonator ?? session.user;
const client = new Twofold({ url: process.env.TWOFOLD_URL ?? "http://localhost:8000", key: process.env.TWOFOLD_KEY });
const twofold = secondFactor({ client, person: whoeverIsThere, loginUrl: "/", signOutUrl: "/logout", name: "Shop" });
app.use(twofold);

function letIn(req, res, whom) {
  req.session.regenerate(() => res.redirect(303, Object.assign(req.session, whom) && "/account"));
}

app.get("/", (req, res) => res.send(page(`<h1>Shop</h1>${form("/login", "Sign in", "name", "password")}`)));
app.post("/login", (req, res) => {
  const { name, password } = req.body;
  if (!Object.hasOwn(passwords, name) || !fits(password, passwords[name])) return res.sendStatus(403);
  letIn(req, res, { user: name });
});
app.post("/login-as/:name", (req, res) =>
  whoeverIsThere(req) === "root" ? letIn(req, res, { user: req.params.name, impersonator: "root" }) : res.sendStatus(403));
app.post("/reset/:link", (req, res) => {
  const name = resets[req.params.link];
  if (!name) return res.sendStatus(404);
  delete resets[req.params.link];
  passwords[name] = hash(req.body.password);
  letIn(req, res, { user: name });
});
app.get("/logout", (req, res) => req.session.destroy(() => res.redirect("/")));
app.get("/account", (req, res) => {
  const name = req.session.user ?? whoeverIsThere(req);
  return name ? res.send(page(`<h1>${name}</h1>${form("/transfer", "Send", "to", "amount")}`)) : res.redirect("/");
});
app.post("/transfer", twofold.fresh({ minutes: 5 }), ({ body }, res) => {
  res.type("text").send(`${body.amount} for ${body.to}`);
});
app.listen(process.env.PORT ?? 3000, () => console.log("listening"));
