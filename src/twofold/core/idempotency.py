"""Lost answers: a call repeated with the same idempotency key ends as it did the first time, for five minutes.

The outcome is kept sealed in the account's own document, written by the same decision that it answers; a call that is
still running is waited for by itself, because decisions of one account follow each other. An outcome may hold what is
shown once, such as recovery codes, and may lie there until the account is written again: so it is hidden under the
caller's own key too, which is stored nowhere.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import ClassVar

import msgspec

from twofold.core.account import Account, KeptAnswer, without_expired
from twofold.core.attempt import Call
from twofold.core.clock import MICROS_PER_S
from twofold.core.decision import UNDECIDED, Decision, Outcome, Refusal
from twofold.core.discreet import Discreet
from twofold.core.entropy import derive
from twofold.core.factor import Seals
from twofold.errors import Refused

KEPT_MAX = 8
KEPT_S = 300
SALT_BYTES = 16
ANSWER_FIELD = "accounts.kept_answer"

Decide = Callable[[Account | None], Decision]

_encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Outcome] = msgspec.msgpack.Decoder(Outcome)


class IdempotencyKey(Discreet, frozen=True):
    """16-byte digests of the caller's key (with application, method and path) and of the body that came with it.

    `secret` is another digest of the key: whoever does not have the key cannot open what was kept under it.
    """

    hidden: ClassVar[tuple[str, ...]] = ("secret",)

    key_digest: bytes
    body_digest: bytes
    secret: bytes


def once(decide: Decide, key: IdempotencyKey | None, call: Call, seals: Seals) -> Decide:
    """`decide` with a memory: under a known key it is not run, its kept outcome is the answer."""
    if key is None:
        return decide

    def decide_once(account: Account | None) -> Decision:
        if account is None:
            decision = decide(None)
            # A refusal leaves nothing to keep it in; an account that is made here keeps how that ended.
            made = decision.account
            return decision if isinstance(made, str) else _keep(decision, made, key, call, seals)
        account = without_expired(account, call.now)
        for kept in account.kept_answers:
            if hmac.compare_digest(kept.key_digest, key.key_digest):
                if not hmac.compare_digest(kept.body_digest, key.body_digest):
                    detail = "this Idempotency-Key came with another body before"
                    raise Refused("idempotency_mismatch", detail)
                return Decision(_open(seals, account, kept, key))
        try:
            decision = decide(account)
        except Refused as refused:
            decision = Decision(Refusal(refused.code, refused.detail))
        return _keep(decision, account, key, call, seals)

    return decide_once


def is_kept(account: Account, key: IdempotencyKey | None, now: int) -> bool:
    """Whether the account has kept how a call under this key ended."""
    if key is None:
        return False
    kept_answers = without_expired(account, now).kept_answers
    return any(hmac.compare_digest(kept.key_digest, key.key_digest) for kept in kept_answers)


def _keep(decision: Decision, account: Account, key: IdempotencyKey, call: Call, seals: Seals) -> Decision:
    if isinstance(decision.outcome, UNDECIDED) or decision.account == "deleted":
        return decision
    changed = account if isinstance(decision.account, str) else decision.account
    salt = derive(call.seed, "kept salt", SALT_BYTES)
    hidden = salt + _cover(_encode(decision.outcome), key, salt)
    sealed = seals.seal(hidden, field=ANSWER_FIELD, account_id=account.id, nonce=derive(call.seed, "kept", 12))
    expires_at = call.now + KEPT_S * MICROS_PER_S
    kept = KeptAnswer(key.key_digest, key.body_digest, expires_at, sealed)
    changed = msgspec.structs.replace(changed, kept_answers=(*changed.kept_answers, kept)[-KEPT_MAX:])
    return msgspec.structs.replace(decision, account=changed, sealed_with=(*decision.sealed_with, seals.active_key_id))


def _open(seals: Seals, account: Account, kept: KeptAnswer, key: IdempotencyKey) -> Outcome:
    hidden = seals.open_seal(kept.sealed_outcome, field=ANSWER_FIELD, account_id=account.id)
    return _decoder.decode(_cover(hidden[SALT_BYTES:], key, hidden[:SALT_BYTES]))


def _cover(data: bytes, key: IdempotencyKey, salt: bytes) -> bytes:
    """The data under a keystream of its own, and back. The seal around it is what notices a change."""
    stream = hashlib.shake_256(b"twofold/1|kept|" + key.secret + salt).digest(len(data))
    return bytes(a ^ b for a, b in zip(data, stream, strict=True))
