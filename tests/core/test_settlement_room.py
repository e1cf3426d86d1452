import msgspec
from tests.ledger import Ledger

from twofold.core.account import Account, KeptAnswer
from twofold.core.attempt import Call
from twofold.core.codec import DOCUMENT_MAX, measure
from twofold.core.decision import Decision, Done


def test_kept_answers_make_room_for_what_matters_more() -> None:
    ledger, _ = Ledger.with_totp()
    kept = tuple(KeptAnswer(bytes(16), bytes(16), 2**62, bytes(1500)) for _ in range(8))

    def fill(account: Account | None, _: Call) -> Decision:
        assert account is not None
        return Decision(Done(), msgspec.structs.replace(account, kept_answers=kept, groups=("g" * 64,) * 32))

    ledger.commit(fill)
    assert ledger.account.kept_answers != ()
    ledger.commit(lambda account, call: Decision(Done(), msgspec.structs.replace(account, groups=("g" * 64,) * 64)))
    assert ledger.account.kept_answers == ()
    assert measure(ledger.account) <= DOCUMENT_MAX
