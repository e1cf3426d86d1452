// The two endpoints of every tutorial. NOT to be used: docs/howto/textbook.md shows what it lets through.
//
// `node tutorial_express.js`; the same on Twofold is in twofold_express.js.

const crypto = require("node:crypto");
const fs = require("node:fs");
const express = require("express");
const session = require("express-session");

const file = `${process.env.DATA_DIR || "."}/users.json`;
const hash = (password) => crypto.scryptSync(password, "a salt", 32).toString("hex");
const users = fs.existsSync(file) ? JSON.parse(fs.readFileSync(file)) : { alice: { password: hash("wonderland") } };

function code(secret, step) {
  const counter = Buffer.alloc(8);
  counter.writeBigInt64BE(BigInt(step));
  const mac = crypto.createHmac("sha1", Buffer.from(secret, "hex")).update(counter).digest();
  const number = mac.readUInt32BE(mac[19] & 15) & 0x7fffffff;
  return String(number % 1000000).padStart(6, "0");
}

function base32(secret) {
  const bits = [...Buffer.from(secret, "hex")].map((byte) => byte.toString(2).padStart(8, "0")).join("");
  return bits.match(/.{5}/g).map((five) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[parseInt(five, 2)]).join("");
}

const app = express();
app.use(express.json());
app.use(session({ secret: process.env.SECRET_KEY || "change me", resave: false, saveUninitialized: false }));

app.post("/login", (req, res) => {
  const { username, password } = req.body;
  const user = users[username];
  if (!user || user.password !== hash(password)) return res.status(401).json({ error: "wrong name or password" });
  req.session.regenerate(() => {
    if (user.secret) req.session.pending = username;
    else req.session.user = username;
    res.json({ next: user.secret ? "/verify-2fa" : "/" });
  });
});

app.post("/setup-2fa", (req, res) => {
  if (!req.session.user) return res.status(401).json({ error: "sign in first" });
  const secret = crypto.randomBytes(20).toString("hex");
  users[req.session.user].secret = secret;
  fs.writeFileSync(file, JSON.stringify(users));
  const uri = `otpauth://totp/Acme:${req.session.user}?secret=${base32(secret)}&issuer=Acme`;
  res.json({ secret: base32(secret), uri });
});

app.post("/verify-2fa", (req, res) => {
  const name = req.session.pending || req.session.user;
  if (!name) return res.status(401).json({ error: "sign in first" });
  const step = Math.floor(Date.now() / 30000);
  const isRight = [step - 1, step, step + 1].some((each) => code(users[name].secret, each) === req.body.code);
  if (!isRight) return res.status(401).json({ error: "wrong code" });
  req.session.regenerate(() => {
    req.session.user = name;
    res.json({ next: "/" });
  });
});

app.get("/", (req, res) => {
  if (!req.session.user) return res.status(401).json({ error: "sign in first" });
  res.json({ user: req.session.user });
});

app.listen(process.env.PORT || 3000, "127.0.0.1");
