"""A Flask application with many doors, and a second factor behind each of them: `flask --app app run`."""

import os

from flask import Flask, abort, redirect, request, session
from markupsafe import escape
from werkzeug.security import check_password_hash, generate_password_hash

from twofold.integrations.flask import SecondFactor, fresh

app = Flask("Flask example")
app.secret_key = os.urandom(32)
passwords = {name: generate_password_hash("correct horse") for name in ("alice", "root")}
tokens, resets = {"Bearer the-token-of-alice": "alice"}, {"mailed-to-alice": "alice"}
FORM = "<form method=post action=%s><input name=%s><input name=%s type=%s><button>%s</button></form>"


def whoever_is_there():  # by whatever door; behind "login as" the one who is really there
    return tokens.get(request.headers.get("Authorization")) or session.get("impersonator") or session.get("name")


data = f"sqlite:///{os.environ.get('DATA_DIR', '.')}/twofold.db"
SecondFactor(app, person=whoever_is_there, database=data, sign_out_url="/logout")


def let_in(**whom):
    session.update(whom)
    return redirect("/account")


@app.get("/")
def home():
    return "<h1>Welcome</h1><a href=/account>Your account</a>"


@app.route("/login", methods=["GET", "POST"])
def login():
    if request.method == "GET":
        return FORM % ("/login", "name autocomplete=username", "password", "password autocomplete=current-password", "Sign in")
    name, password = request.form["name"], request.form["password"]
    return let_in(name=name) if check_password_hash(passwords.get(name, ""), password) else abort(403)


@app.post("/login-as/<name>")
def login_as(name):
    return let_in(name=name, impersonator="root") if whoever_is_there() == "root" else abort(403)


@app.post("/reset/<link>")
def reset(link):
    name = resets.pop(link, None) or abort(404)
    passwords[name] = generate_password_hash(request.form["password"])
    return let_in(name=name)


@app.get("/logout")
def log_out():
    session.clear()
    return redirect("/login")


@app.get("/account")
def account():
    name = session.get("name") or whoever_is_there() or abort(401)
    return f"<h1>{name}</h1>" + FORM % ("/transfer", "to", "amount", "number", "Send")


@app.post("/transfer")
@fresh(minutes=5)
def transfer():
    return f"<h1>{request.form['amount']} for {escape(request.form['to'])}</h1>"
