import hashlib
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.core.account import AuditHead
from twofold.core.audit import Event, EventRow, chain_start, erase, link, verify_chain

NOW = 1_700_000_000_000_000


def a_chain(count: int = 5) -> tuple[list[EventRow], AuditHead]:
    events = [Event("code.accepted", NOW + number, bytes([number]) * 16, {"n": number}) for number in range(count)]
    head, rows = link("alice", chain_start("alice"), events)
    return rows, head


def test_a_chain_holds_from_its_start_to_its_head() -> None:
    rows, head = a_chain()
    assert (head.seq, head.digest) == (5, rows[-1].digest)
    assert verify_chain("alice", rows, head) is None
    assert verify_chain("alice", [], chain_start("alice")) is None


def test_the_digest_is_the_one_that_the_documents_describe() -> None:
    rows, _ = a_chain(1)
    row = rows[0]
    assert row.salt is not None
    assert row.payload is not None
    content = hashlib.sha256(row.salt + row.payload).digest()
    previous = hashlib.sha256(b"twofold/1|auditalice").digest()
    parts = (previous, struct.pack(">q", 1), struct.pack(">q", NOW), b"code.accepted", content)
    assert row.digest == hashlib.sha256(b"".join(len(part).to_bytes(4) + part for part in parts)).digest()


def test_linking_in_two_steps_is_linking_at_once() -> None:
    events = [Event("code.refused", NOW, b"s" * 16, {"n": n}) for n in range(4)]
    head, rows = link("alice", chain_start("alice"), events)
    middle, first = link("alice", chain_start("alice"), events[:2])
    end, second = link("alice", middle, events[2:])
    assert (end, first + second) == (head, rows)
    assert link("alice", head, []) == (head, [])


def test_members_without_a_value_are_left_out() -> None:
    _, rows = link("alice", chain_start("alice"), [Event("code.tested", NOW, b"s", {"a": None, "b": 0, "c": ("x",)})])
    assert rows[0].payload == b'{"b":0,"c":["x"]}'


CHANGES: dict[str, dict[str, object]] = {
    "payload": {"payload": b'{"n":9}'},
    "salt": {"salt": b"x" * 16},
    "kind": {"kind": "code.refused"},
    "at": {"at": NOW + 99},
    "digest": {"digest": b"d" * 32},
    # SQLite keeps what it is given, whatever the column says.
    "payload of another type": {"payload": "text"},
    "time of another type": {"at": "now"},
    "time out of range": {"at": 2**70},
    "kind of another type": {"kind": 7},
    "no digest": {"digest": None},
}


@pytest.mark.parametrize("field", CHANGES)
@pytest.mark.parametrize("place", range(5))
def test_trap_78_an_event_that_was_changed_is_found_where_it_stands(field: str, place: int) -> None:
    rows, head = a_chain()
    rows[place] = msgspec.structs.replace(rows[place], **CHANGES[field])
    broken = verify_chain("alice", rows, head)
    assert broken is not None
    assert (broken.account_id, broken.seq) == ("alice", place + 1)
    assert "changed" in broken.problem


@pytest.mark.parametrize("place", range(5))
def test_trap_78_an_event_that_was_taken_away_or_put_in_twice_is_found(place: int) -> None:
    rows, head = a_chain()
    without = rows[:place] + rows[place + 1 :]
    broken = verify_chain("alice", without, head)
    assert broken is not None
    assert broken.seq == place + 1
    twice = verify_chain("alice", rows[: place + 1] + rows[place:], head)
    assert twice is not None
    assert verify_chain("alice", rows, head) is None


def test_trap_78_events_that_were_exchanged_or_added_at_the_end_are_found() -> None:
    rows, head = a_chain()
    assert verify_chain("alice", [rows[1], rows[0], *rows[2:]], head) is not None
    _, more = link("alice", head, [Event("code.accepted", NOW, b"s" * 16, {})])
    added = verify_chain("alice", rows + more, head)
    assert added is not None
    assert "does not end" in added.problem
    assert added.seq == 6


def test_a_chain_of_another_account_does_not_hold() -> None:
    rows, head = a_chain()
    assert verify_chain("bob", rows, head) is not None


def test_after_a_deletion_the_digests_of_the_erased_events_still_lead_to_the_head() -> None:
    rows, head = a_chain()
    erased = [msgspec.structs.replace(row, salt=None, payload=None) for row in rows]
    assert verify_chain("alice", erased, erase(head)) is None
    later, new_rows = link("alice", erase(head), [Event("account.added", NOW, b"s" * 16, {})])
    assert later.erased == 5
    assert verify_chain("alice", erased + new_rows, later) is None
    forged = [*erased[:-1], msgspec.structs.replace(erased[-1], digest=b"f" * 32), *new_rows]
    assert verify_chain("alice", forged, later) is not None


@pytest.mark.parametrize("field", ["salt", "payload"])
def test_contents_that_were_taken_away_without_a_deletion_are_missed(field: str) -> None:
    rows, head = a_chain()
    rows[2] = msgspec.structs.replace(rows[2], **{field: None})
    broken = verify_chain("alice", rows, head)
    assert broken is not None
    assert (broken.seq, broken.problem) == (3, "the event's contents were taken away")


@given(st.lists(st.tuples(st.sampled_from(["code.accepted", "code.refused"]), st.integers(0, 2**62)), max_size=20))
def test_any_chain_holds_and_none_of_its_parts_does(kinds: list[tuple[str, int]]) -> None:
    events = [Event(kind, at, b"s" * 16, {}) for kind, at in kinds]  # type: ignore[arg-type]
    head, rows = link("alice", chain_start("alice"), events)
    assert verify_chain("alice", rows, head) is None
    for place in range(len(rows)):
        assert verify_chain("alice", rows[:place], head) is not None
