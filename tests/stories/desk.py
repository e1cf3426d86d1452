"""A Flask application that judges codes and tells which of its workers did. Served by gunicorn, `desk:app`."""

import os

from flask import Flask, request
from flask.typing import ResponseReturnValue

from twofold import BlockingVerifier, Busy

app = Flask(__name__)
# At import: with --preload that is in the master, before it forks its workers.
verifier = BlockingVerifier.open(os.environ["DATABASE"])


@app.post("/verify")
def verify() -> ResponseReturnValue:
    body = request.get_json()
    try:
        ended = type(verifier.verify(body["account"], code=body["code"])).__name__
    except Busy:
        ended = "Busy"
    return {"ended": ended, "worker": os.getpid()}
