"""The tutorial's server with Twofold instead of the dict: Flask and a `BlockingVerifier`. Served by gunicorn,
`embedded:app`.

All else is as in `bench.tutorial`, so that what they take differently is Twofold.
"""

import os

from flask import Flask, request
from flask.typing import ResponseReturnValue

from twofold import BlockingVerifier, Verified

app = Flask(__name__)
twofold = BlockingVerifier.open(os.environ["DATABASE"])


@app.post("/verify")
def verify() -> ResponseReturnValue:
    """Durable, sealed, throttled, and each code once."""
    body = request.get_json()
    return {"verified": isinstance(twofold.verify(body["account"], code=body["code"]), Verified)}
