import msgspec
import pytest
from tests.ledger import Ledger

from twofold.core.account import Account
from twofold.core.audit import chain_start, verify_chain
from twofold.core.codec import Tombstone
from twofold.core.decision import ContactIndex, Decision, Done, Message, Throttled
from twofold.core.management import ProfileChange, delete_account, put_account
from twofold.core.settlement import Standing, load_standing, settle
from twofold.errors import Refused, TamperedRecord


def test_an_account_without_a_row_stands_at_version_0() -> None:
    ledger = Ledger()
    assert load_standing("alice", None, ledger.codec) == Standing("alice", 0, None)


def test_an_account_stands_as_its_row_says_and_a_changed_row_is_not_believed() -> None:
    ledger, _ = Ledger.with_totp()
    row = ledger.codec.dump(ledger.account, 5)
    assert load_standing("alice", row, ledger.codec) == Standing("alice", 5, ledger.account)
    with pytest.raises(TamperedRecord):
        load_standing("alice", msgspec.structs.replace(row, version=4), ledger.codec)


def test_what_decides_nothing_writes_nothing() -> None:
    ledger, _ = Ledger.with_totp()
    before = ledger.standing
    settled = settle(before, lambda _account: Decision(Throttled(1)), ledger.codec)
    assert (settled.row, settled.events, settled.effects, settled.standing) == (None, (), (), before)


def test_a_change_is_the_next_version_with_its_events_and_effects() -> None:
    ledger = Ledger()
    change = ProfileChange(b"sealed", "data-1", (("email", b"k" * 32),))
    ledger.commit(lambda account, call: put_account(account, "alice", call, profile=change))
    settled = ledger.last
    assert settled is not None
    assert settled.row is not None
    assert (settled.row.version, settled.standing.version, settled.is_deletion) == (1, 1, False)
    assert [(row.seq, row.kind) for row in settled.events] == [(1, "account.added")]
    assert settled.effects == (ContactIndex((("email", b"k" * 32),)),)
    assert ledger.codec.load(settled.row) == settled.standing.state
    assert ledger.account.head.seq == 1


def test_what_a_decision_raises_passes_through_and_nothing_has_happened() -> None:
    ledger = Ledger()
    with pytest.raises(Refused):
        ledger.commit(delete_account)
    assert ledger.standing == Standing("alice", 0, None)


def test_a_deletion_leaves_a_tombstone_and_a_new_account_goes_on_with_its_chain_under_a_new_epoch() -> None:
    ledger, phone = Ledger.with_totp()
    epoch, count = ledger.account.epoch, len(ledger.rows)
    ledger.commit(delete_account)
    settled = ledger.last
    assert settled is not None
    assert settled.is_deletion
    assert isinstance(ledger.standing.state, Tombstone)
    assert ledger.standing.state.head.seq == ledger.standing.state.head.erased == count + 1
    assert settled.row is not None
    assert phone.id.encode() not in settled.row.document
    with pytest.raises(Refused) as refused:
        ledger.verify("123456")
    assert refused.value.code == "not_found"

    ledger.commit(lambda account, call: put_account(account, "alice", call))
    assert ledger.account.epoch != epoch
    assert ledger.account.authenticators == ()
    assert ledger.account.known_browsers == ()
    assert ledger.account.head.seq == count + 2
    # The store erases the contents of the events up to the deletion.
    erased = [
        msgspec.structs.replace(row, salt=None, payload=None) if row.seq <= count + 1 else row for row in ledger.rows
    ]
    assert verify_chain("alice", erased, ledger.account.head) is None
    assert verify_chain("alice", erased[:-1], ledger.account.head) is not None


def test_decisions_in_one_batch_stand_each_on_the_one_before() -> None:
    ledger = Ledger()
    standing, rows = ledger.standing, []
    for number in range(3):
        groups = (str(number),)

        def decide(account: Account | None, groups: tuple[str, ...] = groups) -> Decision:
            return put_account(account, "alice", ledger.call(), groups=groups)

        settled = settle(standing, decide, ledger.codec)
        standing = settled.standing
        rows += settled.events
    assert standing.version == 3
    assert isinstance(standing.state, Account)
    assert standing.state.groups == ("2",)
    assert [row.kind for row in rows] == ["account.added", "account.changed", "account.changed"]
    assert verify_chain("alice", rows, standing.state.head) is None


def test_events_without_a_change_are_not_possible() -> None:
    ledger, _ = Ledger.with_totp()
    decision = Decision(Done(), effects=(Message("me_1", "x", {}),))
    assert settle(ledger.standing, lambda _account: decision, ledger.codec).effects == ()


def test_a_chain_begins_under_the_accounts_name() -> None:
    assert chain_start("alice").digest != chain_start("bob").digest
    assert chain_start("alice").seq == 0
