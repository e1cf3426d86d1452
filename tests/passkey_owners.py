"""People with passkeys that nobody holds: for what only counts them and asks for whom they are."""

import msgspec

from twofold.core.account import Account, Authenticator, new_account
from twofold.core.attempt import Call
from twofold.core.decision import Decision, Done
from twofold.core.entropy import Seed
from twofold.factors.webauthn import WebauthnCredential
from twofold.ports import Accounts


def make_passkey(number: int, rp_id: str, *, state: str = "active") -> Authenticator:
    """A passkey that was made for this rp_id."""
    record = WebauthnCredential(
        rp_id,
        user_handle=b"h" * 32,
        id=b"%d" % number,
        public_key=b"",
        sign_count=0,
        transports=(),
        aaguid=bytes(16),
        is_backup_eligible=False,
        is_backed_up=False,
        is_user_verifying=True,
        is_discoverable=True,
        attestation="none",
        is_attested=False,
    )
    return Authenticator(f"au_{number}", "webauthn", "", state, msgspec.msgpack.encode(record), 0)  # type: ignore[arg-type]


async def add_passkeys(accounts: Accounts, account_id: str, *rp_ids: str, state: str = "active") -> None:
    """Somebody new with a passkey for each of these."""

    def decide(_: Account | None) -> Decision:
        call = Call(0, Seed(bytes(32)))
        passkeys = tuple(make_passkey(number, rp_id, state=state) for number, rp_id in enumerate(rp_ids))
        account = msgspec.structs.replace(new_account(account_id, call.seed, 0), authenticators=passkeys)
        return Decision(Done(), account, (call.event("account.added"),))

    await accounts.transact(account_id, decide)
