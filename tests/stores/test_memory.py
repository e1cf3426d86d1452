import pytest
from tests.stores.contract_accounts import AccountsContract
from tests.stores.contract_pages import PagesContract
from tests.stores.contract_ports import PortsContract
from tests.stores.contract_sessions import SessionsContract

from twofold.core.codec import Codec
from twofold.core.session import StoredSession
from twofold.stores.memory import MemoryStore


@pytest.fixture
def bare_store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def store(bare_store: MemoryStore, codec: Codec) -> MemoryStore:
    bare_store.use_codec(codec)
    return bare_store


class TestMemoryStore(AccountsContract, PagesContract, PortsContract, SessionsContract):
    async def take_row_away(self, store: MemoryStore, account_id: str) -> None:
        del store._rows[account_id]

    async def replace_session(self, store: MemoryStore, row: StoredSession) -> None:
        store._sessions[row.token_digest] = row
