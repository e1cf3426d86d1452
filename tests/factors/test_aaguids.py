"""The table of makers' names: sound, and about people's first labels only."""

from uuid import UUID

from twofold.core.account import check_label
from twofold.factors.aaguids import NAMES, find_name


def test_a_known_aaguid_has_the_name_that_people_know() -> None:
    assert find_name(UUID("fbfc3007-154e-4ecc-8c0b-6e020557d7bd").bytes) == "iCloud Keychain"
    assert find_name(UUID("a25342c0-3cdc-4414-8e46-f4807fca511c").bytes) == "YubiKey 5 NFC"


def test_an_unknown_one_and_none_at_all_have_no_name() -> None:
    assert find_name(bytes(16)) == ""
    assert find_name(b"\xff" * 16) == ""


def test_every_row_is_spelled_as_it_is_looked_up_and_fits_as_a_label() -> None:
    assert len(NAMES) >= 60
    for aaguid, name in NAMES.items():
        assert str(UUID(aaguid)) == aaguid
        assert check_label(name) == name
        assert find_name(UUID(aaguid).bytes) == name
