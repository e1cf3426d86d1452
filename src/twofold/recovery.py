"""Recovery codes that are made while an attempt is under way, when its decision asks for them."""

from __future__ import annotations

from twofold.core.decision import NeedsRecoveryCodes, Outcome
from twofold.core.enrollment import NewCredential
from twofold.credentials import Credentials
from twofold.engine import Caller


class RecoveryCodesOnDemand:
    """Recovery codes, made when a decision asks for them: ten slow hashes are not spent on a wrong code."""

    def __init__(self, credentials: Credentials, account_id: str, caller: Caller) -> None:
        self._credentials = credentials
        self._account_id = account_id
        self._caller = caller
        self.made: NewCredential | None = None

    async def prepare(self, asked: Outcome | None) -> None:
        """Make them, if that is what was asked for."""
        if isinstance(asked, NeedsRecoveryCodes):
            address = self._caller.neighborhood
            self.made = await self._credentials.new_recovery_codes(self._account_id, address=address)
