// The two endpoints of the tutorials on a Twofold server: `TWOFOLD_KEY=… node twofold_express.js`.

const crypto = require("node:crypto");
const express = require("express");
const session = require("express-session");
const { Throttled, Twofold, Unavailable } = require("@twofold/client");

const { TWOFOLD_URL = "http://localhost:8000", TWOFOLD_KEY, SECRET_KEY, PORT = 3000 } = process.env;
const twofold = new Twofold({ url: TWOFOLD_URL, key: TWOFOLD_KEY });
const hash = (password) => crypto.scryptSync(password, "a salt", 32).toString("hex");
const passwords = { alice: hash("wonderland") };

const app = express();
app.use(express.json());
const secret = SECRET_KEY || crypto.randomBytes(32).toString("hex");
app.use(session({ secret, resave: false, saveUninitialized: false }));
const signedIn = (req, res, next) => (req.session.user ? next() : res.status(401).json({ error: "sign in first" }));

app.post("/login", async (req, res) => {
  const { username, password } = req.body;
  if (passwords[username] !== hash(password)) return res.status(401).json({ error: "wrong name or password" });
  const { state } = await twofold.putAccount(username);
  req.session.regenerate(() => {
    req.session[state === "empty" ? "user" : "pending"] = username;
    res.json({ next: state === "empty" ? "/" : "/verify-2fa" });
  });
});

app.post("/setup-2fa", signedIn, async (req, res) => {
  const begun = await twofold.addAuthenticator(req.session.user, { factor: "totp" });
  req.session.enrollment = begun.id;
  res.json(begun.totp);
});

app.post("/verify-2fa", async (req, res) => {
  const { user, pending, enrollment } = req.session;
  if (enrollment) {
    const { recovery_codes } = await twofold.confirmAuthenticator(user, enrollment, { code: req.body.code });
    return res.json({ next: "/", recovery_codes });
  }
  if (!pending) return res.status(401).json({ error: "sign in first" });
  const [known] = /(?<=known=)[^;]+/.exec(req.headers.cookie) ?? []; // skips nothing
  const ended = await twofold.verify(pending, { code: req.body.code, context: { ip: req.ip, browser: known } });
  if (!ended.verified) return res.status(401).json({ error: ended.reason });
  req.session.regenerate(() => {
    req.session.user = pending;
    res.cookie("known", ended.browser, { maxAge: 180 * 86400e3, httpOnly: true, sameSite: "lax" }).json({ next: "/" });
  });
});

app.get("/", signedIn, (req, res) => res.json({ user: req.session.user }));

app.use((error, req, res, next) => { // whatever it is, it is a no
  const status = error instanceof Throttled ? 429 : error instanceof Unavailable ? 503 : 403;
  res.status(status).json({ error: error.code, ways: error.ways });
});

app.listen(PORT, "127.0.0.1");
