"""What the tests of all stores share."""

import pytest

from twofold.core.codec import Codec
from twofold.crypto.digest import MacKeys

pytest.register_assert_rewrite(
    *(f"tests.stores.contract_{subject}" for subject in ("accounts", "pages", "ports", "sessions"))
)


@pytest.fixture
def codec() -> Codec:
    return Codec(MacKeys({"k1": bytes(32)}, signing="k1"))
