"""The two endpoints of every tutorial. NOT to be used: docs/howto/textbook.md shows what it lets through.

`flask --app tutorial_flask run`; the same on Twofold is in twofold_flask.py.
"""

import json
import os
from pathlib import Path

import pyotp
from flask import Flask, request, session
from werkzeug.security import check_password_hash, generate_password_hash

app = Flask(__name__)
app.secret_key = os.environ.get("SECRET_KEY", "change me")
FILE = Path(os.environ.get("DATA_DIR", "."), "users.json")
users = {"alice": {"password": generate_password_hash("wonderland")}}
if FILE.exists():
    users = json.loads(FILE.read_text())


@app.post("/login")
def login():
    name, user = request.json["username"], users.get(request.json["username"])
    if user is None or not check_password_hash(user["password"], request.json["password"]):
        return {"error": "wrong name or password"}, 401
    session.clear()
    if "secret" in user:
        session["pending"] = name
        return {"next": "/verify-2fa"}
    session["user"] = name
    return {"next": "/"}


@app.post("/setup-2fa")
def setup_2fa():
    if "user" not in session:
        return {"error": "sign in first"}, 401
    secret = pyotp.random_base32()
    users[session["user"]]["secret"] = secret
    FILE.write_text(json.dumps(users))
    return {"secret": secret, "uri": pyotp.TOTP(secret).provisioning_uri(name=session["user"], issuer_name="Acme")}


@app.post("/verify-2fa")
def verify_2fa():
    name = session.get("pending") or session.get("user")
    if name is None:
        return {"error": "sign in first"}, 401
    if not pyotp.TOTP(users[name]["secret"]).verify(request.json["code"], valid_window=1):
        return {"error": "wrong code"}, 401
    session.clear()
    session["user"] = name
    return {"next": "/"}


@app.get("/")
def home():
    return {"user": session["user"]} if "user" in session else ({"error": "sign in first"}, 401)
