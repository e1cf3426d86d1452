from tests.kit import START_S

from twofold.core.attempt import Call, Context
from twofold.core.clock import in_seconds
from twofold.core.entropy import Seed

CALL = Call(in_seconds(START_S), Seed(b"s" * 32), "shop", True, Context("192.0.2.1", "agent", "browser-value"))


def test_an_event_carries_when_who_and_where() -> None:
    event = CALL.event("code.accepted", factor="totp")
    assert (event.kind, event.at, len(event.salt)) == ("code.accepted", CALL.now, 16)
    assert event.payload == {
        "factor": "totp",
        "application": "shop",
        "admin": True,
        "by": None,
        "ip": "192.0.2.1",
        "user_agent": "agent",
    }


def test_two_kinds_of_event_of_one_call_have_salts_of_their_own() -> None:
    assert CALL.event("code.accepted").salt != CALL.event("code.refused").salt


def test_a_payload_cannot_forge_where_the_call_came_from() -> None:
    assert CALL.event("code.accepted", ip="198.51.100.1").payload["ip"] == "192.0.2.1"


def test_a_long_user_agent_is_cut() -> None:
    call = Call(0, Seed(bytes(32)), context=Context(user_agent="x" * 1000))
    assert call.event("code.accepted").payload["user_agent"] == "x" * 256
    assert Call(0, Seed(bytes(32))).event("code.accepted").payload["user_agent"] is None


def test_a_message_has_an_id_of_its_own_for_each_kind_and_call() -> None:
    other = Call(CALL.now, Seed(b"t" * 32))
    ids = {call.message(kind, {}).id for call in (CALL, other) for kind in ("codes.refused", "browsers.guessing")}
    assert len(ids) == 4
    assert all(message_id.startswith("me_") for message_id in ids)


def test_what_a_call_shows_of_itself_holds_no_secret() -> None:
    assert "browser-value" not in repr(CALL)
    assert "ssss" not in repr(CALL)
    assert "192.0.2.1" in repr(CALL)
