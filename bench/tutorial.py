"""The server of every tutorial on one-time codes: Flask, a dict of secrets, pyotp. Served by gunicorn, `tutorial:app`.

It keeps nothing: a code can be used again and again, guesses are not counted, and a restart forgets everybody. What
Twofold does beside that is what the comparison is about.
"""

import os
from base64 import b32encode

import pyotp
from flask import Flask, request
from flask.typing import ResponseReturnValue

from bench.population import account_id, seed_of

app = Flask(__name__)
SECRETS = {account_id(number): b32encode(seed_of(number)).decode() for number in range(int(os.environ["ACCOUNTS"]))}


@app.post("/verify")
def verify() -> ResponseReturnValue:
    """As the tutorials have it."""
    body = request.get_json()
    return {"verified": pyotp.TOTP(SECRETS[body["account"]]).verify(body["code"], valid_window=1)}
