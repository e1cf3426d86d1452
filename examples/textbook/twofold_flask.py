"""The two endpoints of the tutorials on Twofold: `flask --app twofold_flask run`."""

import os

from flask import Flask, request, session
from werkzeug.security import check_password_hash, generate_password_hash

from twofold import BlockingVerifier, Confirmed, Refused, Rejected, Throttled, TwofoldError, Verified

app = Flask(__name__)
app.secret_key = os.environ.get("SECRET_KEY") or os.urandom(32)
app.register_error_handler(KeyError, lambda error: ({"error": "sign in first"}, 401))
app.register_error_handler(TwofoldError, lambda error: ({"error": str(error)}, 403))  # whatever it is, it is a no
twofold = BlockingVerifier.open(f"sqlite:///{os.environ.get('DATA_DIR', '.')}/twofold.db", issuer="Acme")
passwords = {"alice": generate_password_hash("wonderland")}


@app.post("/login")
def login():
    name = request.json["username"]
    if name not in passwords or not check_password_hash(passwords[name], request.json["password"]):
        return {"error": "wrong name or password"}, 401
    session.clear()
    try:
        has_second_factor = twofold.account(name).state != "empty"
    except Refused:  # never enrolled
        has_second_factor = False
    session["pending" if has_second_factor else "user"] = name
    return {"next": "/verify-2fa" if has_second_factor else "/"}


@app.post("/setup-2fa")
def setup_2fa():
    begun = twofold.enroll(session["user"])
    session["enrollment"] = begun.id
    return {"secret": begun.secret, "uri": begun.uri}


@app.post("/verify-2fa")
def verify_2fa():
    code, known = str(request.json["code"]), request.cookies.get("known")
    if "pending" in session:
        ended = twofold.verify(session["pending"], code=code, browser=known, ip=request.remote_addr)
    else:
        ended = twofold.confirm(session["user"], session["enrollment"], code=code)
    match ended:
        case Verified():  # `known` skips nothing: with it, guesses from elsewhere do not slow this browser
            session["user"] = session.pop("pending")
            return {"next": "/"}, {"Set-Cookie": f"known={ended.browser}; Max-Age=15552000; HttpOnly; SameSite=Lax"}
        case Confirmed():
            return {"next": "/", "recovery_codes": ended.recovery_codes}
        case Rejected():
            return {"error": ended.reason}, 401
        case Throttled():
            return {"error": "too many wrong codes", "ways": ended.ways}, 429


@app.get("/")
def home():
    return {"user": session["user"]}
