import msgspec
import pytest
from tests.kit import reason_of
from tests.ledger import Ledger

from twofold.core.account import Account, AuditHead
from twofold.core.codec import DOCUMENT_MAX, Codec, StoredAccount, Tombstone
from twofold.core.decision import Verified
from twofold.core.management import put_account
from twofold.crypto.digest import MacKeys
from twofold.errors import Refused, TamperedRecord


def a_row() -> tuple[Codec, StoredAccount, Account]:
    ledger, _ = Ledger.with_totp()
    return ledger.codec, ledger.codec.dump(ledger.account, 7), ledger.account


def test_a_document_is_read_back_as_it_was_written() -> None:
    codec, row, account = a_row()
    assert (row.account_id, row.version, row.schema) == ("alice", 7, 1)
    assert codec.load(row) == account


def test_trap_74_a_document_with_one_byte_changed_is_not_believed() -> None:
    codec, row, account = a_row()
    for place in range(len(row.document)):
        changed = bytearray(row.document)
        changed[place] ^= 1
        with pytest.raises(TamperedRecord):
            codec.load(msgspec.structs.replace(row, document=bytes(changed)))
    for place in range(len(row.mac)):
        changed = bytearray(row.mac)
        changed[place] ^= 1
        with pytest.raises(TamperedRecord):
            codec.load(msgspec.structs.replace(row, mac=bytes(changed)))
    assert codec.load(row) == account


@pytest.mark.parametrize(
    "change",
    [
        {"account_id": "bob"},
        {"version": 6},
        {"version": 8},
        {"version": -1},
        {"version": 2**63 - 1},
        {"schema": 0},
        {"schema": 2},
        {"schema": 256},
        {"schema": -1},
        {"schema": 2**63 - 1},
        # SQLite keeps what it is given, whatever the column says.
        {"version": "7"},
        {"version": None},
        {"schema": 1.5},
        {"document": "text"},
        {"mac": None},
        {"mac": "mac-1"},
        {"document": b""},
        {"mac": b""},
        {"mac": b"mac-1\0"},
        {"mac": b"mac-2\0" + bytes(32)},
    ],
    ids=str,
)
def test_a_row_with_another_field_is_not_believed(change: dict[str, object]) -> None:
    codec, row, account = a_row()
    with pytest.raises(TamperedRecord) as tampered:
        codec.load(msgspec.structs.replace(row, **change))
    assert tampered.value.what.startswith("account ")
    assert codec.load(row) == account


def test_trap_74_the_documents_of_two_accounts_cannot_be_exchanged() -> None:
    alice, _ = Ledger.with_totp("alice")
    bob, _ = Ledger.with_totp("bob", seed=1)
    rows = [ledger.codec.dump(ledger.account, 1) for ledger in (alice, bob)]
    for mine, theirs in (rows, reversed(rows)):
        with pytest.raises(TamperedRecord):
            alice.codec.load(msgspec.structs.replace(mine, document=theirs.document))
        with pytest.raises(TamperedRecord):
            alice.codec.load(msgspec.structs.replace(mine, document=theirs.document, mac=theirs.mac))


def test_a_row_signed_under_an_older_key_counts_while_that_key_is_held() -> None:
    _, row, account = a_row()
    keys = {"mac-1": b"m" * 32, "mac-2": b"n" * 32}
    codec = Codec(MacKeys(keys, signing="mac-2"))
    assert codec.load(row) == account
    assert codec.dump(account, 8).mac.startswith(b"mac-2\0")
    with pytest.raises(TamperedRecord):
        Codec(MacKeys({"mac-2": b"n" * 32}, signing="mac-2")).load(row)


def test_a_row_of_a_newer_program_is_unavailable_and_says_why() -> None:
    codec, row, _ = a_row()
    newer = codec._sign(row.account_id, row.version, 2, row.document)
    with pytest.raises(TamperedRecord, match="newer program"):
        codec.load(newer)


def test_a_tombstone_keeps_the_head_and_nothing_else() -> None:
    codec, _, account = a_row()
    row = codec.dump_tombstone("alice", account.head, 9)
    assert codec.load(row) == Tombstone(account.head)
    assert len(row.document) < 60
    with pytest.raises(TamperedRecord):
        codec.load(msgspec.structs.replace(row, document=msgspec.msgpack.encode(Tombstone(AuditHead(0, b"")))))


def test_a_document_over_16_kib_is_refused_and_one_below_is_written() -> None:
    codec, row, account = a_row()
    room = DOCUMENT_MAX - len(row.document) - 3
    fits = msgspec.structs.replace(account, sealed_profile=bytes(room))
    assert len(codec.dump(fits, 1).document) <= DOCUMENT_MAX
    with pytest.raises(Refused) as refused:
        codec.dump(msgspec.structs.replace(account, sealed_profile=bytes(room + 8)), 1)
    assert refused.value.code == "too_many"


def test_asvs_6_5_2_a_document_holds_no_seed_and_no_code_in_any_readable_form() -> None:
    ledger, phone = Ledger.with_totp()
    document = ledger.codec.dump(ledger.account, 1).document
    assert phone.secret not in document
    for code in ledger.recovery_codes:
        plain = code.replace("-", "")
        assert code.encode() not in document
        assert plain[4:].encode() not in document
        assert plain[:4].encode() in document, "the locator is kept in clear"


def test_on_an_account_that_is_full_to_the_byte_answers_are_still_judged_charged_and_accepted() -> None:
    ledger, phone = Ledger.with_totp()
    size = len(ledger.codec.dump(ledger.account, 1).document)
    groups = ("x" * (DOCUMENT_MAX - size - 3),)
    ledger.commit(lambda account, call: put_account(account, "alice", call, groups=groups))
    assert len(ledger.codec.dump(ledger.account, 1).document) == DOCUMENT_MAX
    # Nothing more can be added to it ...
    more = (*groups, "x")
    with pytest.raises(Refused) as refused:
        ledger.commit(lambda account, call: put_account(account, "alice", call, groups=more))
    assert refused.value.code == "too_many"
    # ... but a wrong code is not free, and a right one is not refused.
    assert reason_of(ledger.verify(ledger.wrong_code(phone))) == "wrong_code"
    assert ledger.authenticator(phone).failures == 1
    assert ledger.account.lane.spent == 3 * 86_400
    for _ in range(25):
        assert isinstance(ledger.verify(ledger.next_code(phone), purpose="manage"), Verified)
    assert len(ledger.codec.dump(ledger.account, 1, may_exceed=True).document) < DOCUMENT_MAX + 4096
