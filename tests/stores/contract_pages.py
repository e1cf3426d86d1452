"""What every store does for lists of people and their counts."""

import asyncio

import pytest
from tests.stores.contract_accounts import Store
from tests.stores.examples import count, delete, enroll

from twofold.ports import AccountCounts


async def page(store: Store, **narrowed) -> list[str]:
    return [row.account_id for row in await store.page_accounts(**narrowed)]


class PagesContract:
    async def test_a_page_of_accounts_can_be_narrowed(self, store: Store) -> None:
        await store.transact("", count(""))
        await store.transact("a", enroll("a", "totp", "recovery_codes"))
        await store.transact("b", enroll("b", "hotp", "totp"))
        await store.transact("c", enroll("c", "totp", is_disabled=True))
        await store.transact("d", enroll("d"))
        await store.transact("e", enroll("e", "totp"))
        await store.transact("e", delete)
        assert await page(store) == ["a", "b", "c", "d"]
        assert await page(store, after="b") == ["c", "d"]
        assert await page(store, after="a", limit=2) == await page(store, after="a\0a", limit=2) == ["b", "c"]
        assert await page(store, factor="totp") == ["a", "b", "c"]
        assert await page(store, factor="hotp") == ["b"]
        assert await page(store, factor="otp") == await page(store, factor="sms") == []
        assert await page(store, state="disabled") == ["c"]
        assert await page(store, state="empty") == ["d"]
        assert await page(store, state="active", factor="recovery_codes") == ["a"]
        assert await page(store, state="deleted") == []

    async def test_a_page_follows_what_changes(self, store: Store) -> None:
        await store.transact("a", enroll("a", "totp"))
        await store.transact("b", enroll("b", "totp", "hotp", role="administrator"))
        await store.transact("a", enroll("a", "hotp", role="administrator"))
        await store.transact("b", enroll("b", "totp", "hotp"))
        assert await page(store, factor="totp") == ["b"]
        assert await page(store, factor="hotp") == ["a", "b"]
        assert await page(store, role="administrator") == ["a"]

    async def test_a_page_of_one_role(self, store: Store) -> None:
        await store.transact("a", enroll("a", "totp", role="administrator"))
        await store.transact("b", enroll("b", "totp"))
        await store.transact("c", enroll("c", role="administrator"))
        assert await page(store, role="administrator") == ["a", "c"]
        assert await page(store, role="administrator", state="active") == ["a"]
        assert await page(store, role="") == ["b"]
        assert await page(store, role="janitor") == []
        await store.transact("c", delete)
        assert await page(store, role="administrator") == ["a"]

    @pytest.mark.parametrize(
        ("search", "found"),
        [
            ("ann", ["Ann@example.org", "joanne"]),
            ("ANN@", ["Ann@example.org"]),
            ("åsa", ["ÅSA"]),
            ("Ж", ["ж"]),
            ("n", ["Ann@example.org", "joanne", "n%_*?[a-z]^]"]),
            ("%", ["n%_*?[a-z]^]"]),
            ("_", ["n%_*?[a-z]^]"]),
            ("*", ["n%_*?[a-z]^]"]),
            ("?[A-", ["n%_*?[a-z]^]"]),
            ("]^]", ["n%_*?[a-z]^]"]),
            ("[^x]", []),
            ("[a-z", ["n%_*?[a-z]^]"]),
            ("nobody", []),
            ("\0", []),
        ],
    )
    async def test_a_part_of_the_id_finds_it_in_capitals_or_not(
        self, store: Store, search: str, found: list[str]
    ) -> None:
        ids = ["Ann@example.org", "joanne", "n%_*?[a-z]^]", "ÅSA", "ж"]
        await asyncio.gather(*(store.transact(i, enroll(i)) for i in ids))
        assert await page(store, search=search) == found
        assert await page(store, search="") == ids
        assert await page(store, search=search, state="active") == []
        assert await page(store, search=search, limit=1) == found[:1]

    async def test_people_are_counted_by_what_they_are(self, store: Store) -> None:
        assert await store.count_accounts_by() == AccountCounts(0, {}, {}, {})
        await store.transact("", count(""))
        await store.transact("a", enroll("a", "totp", "recovery_codes", role="administrator"))
        await store.transact("b", enroll("b", "hotp", "totp"))
        await store.transact("c", enroll("c", "totp", is_disabled=True))
        await store.transact("d", enroll("d", role="administrator"))
        await store.transact("e", enroll("e", "totp", role="administrator"))
        assert await store.count_accounts_by() == AccountCounts(
            5,
            {"active": 3, "disabled": 1, "empty": 1},
            {"administrator": 3},
            {"totp": 4, "hotp": 1, "recovery_codes": 1},
        )
        await store.transact("e", delete)
        await store.transact("a", enroll("a", "hotp"))
        assert await store.count_accounts_by() == AccountCounts(
            4, {"active": 2, "disabled": 1, "empty": 1}, {"administrator": 1}, {"totp": 2, "hotp": 2}
        )

    async def test_who_has_to_set_up_an_authenticator_anew_is_listed_and_counted(self, store: Store) -> None:
        await store.transact("", count(""))
        await store.transact("a", enroll("a", "totp", "hotp", stops_at=30))
        await store.transact("b", enroll("b", "totp"))
        await store.transact("c", enroll("c", "hotp", role="administrator", stops_at=20))
        await store.transact("d", enroll("d", "totp", is_disabled=True, stops_at=40))
        assert await page(store, stops_by=19) == []
        assert await page(store, stops_by=20) == ["c"]
        assert await page(store, stops_by=40) == ["a", "c", "d"]
        assert await page(store, stops_by=2**63 - 1, after="a", limit=1) == ["c"]
        assert await page(store, stops_by=40, factor="totp", state="active") == ["a"]
        assert await page(store, stops_by=40, role="administrator") == ["c"]
        assert await page(store, stops_by=40, search="D") == ["d"]
        assert await page(store) == ["a", "b", "c", "d"]
        counts = await store.count_accounts_by()
        assert (counts.total, counts.stopping, counts.first_stops_at) == (4, 3, 20)
        await store.transact("c", enroll("c", "hotp"))
        await store.transact("d", delete)
        assert await page(store, stops_by=40) == ["a"]
        counts = await store.count_accounts_by()
        assert (counts.stopping, counts.first_stops_at) == (1, 30)
