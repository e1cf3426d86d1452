"""Passkeys that an application made over the API, with a key of whatever scope: nobody comes in by one on the pages."""

import pytest
from tests.server.conftest import Server
from tests.server.passkey_holders import Holder, add_passkey
from tests.server.visitors import ADMIN, add_person

APPLICATION = "shopshop"


@pytest.fixture
async def ada(server: Server) -> Holder:
    """An administrator with a password and an app, for whom an application registered a passkey."""
    holder = Holder(server, "ada")
    await add_person(server, "ada")
    await server.deployment.administration.set_role("ada", "administrator", caller=ADMIN)
    await add_passkey(server, "ada", holder.authenticator, application=APPLICATION)
    return holder


async def test_alone_it_opens_nothing_and_one_that_was_made_on_the_pages_does(ada: Holder, server: Server) -> None:
    await ada.open("/sign-in")
    assert (await ada.show_passkey()).status == 401
    assert not ada.token
    assert (await ada.open("/admin")).path == "/sign-in"
    ada.authenticator.credentials.clear()
    await add_passkey(server, "ada", ada.authenticator)
    await ada.open("/sign-in")
    assert (await ada.show_passkey()).path == "/security"
    assert (await ada.open("/admin")).path == "/admin"


async def test_after_the_password_it_is_a_second_factor(ada: Holder) -> None:
    await ada.open("/sign-in")
    await ada.give_password()
    assert (await ada.show_passkey()).path == "/security"


async def test_it_asks_nothing_of_the_administrator_and_gives_her_nothing(ada: Holder, server: Server) -> None:
    await ada.sign_in()
    assert (await ada.open("/admin")).path == "/admin", "there is no passkey of hers to ask for"
    await add_passkey(server, "ada", type(ada.authenticator)())
    assert (await ada.open("/admin")).path == "/admin/passkey"
    assert (await ada.show_passkey()).status == 422, "the application's passkey shows nobody here"
