"""`/.well-known/webauthn`: where browsers ask on which other origins the passkeys of this host work."""

from tests.server.conftest import URL, OpenServer, assert_problem

PATH = "/.well-known/webauthn"
LOGIN = "https://login.example.com"


async def test_related_origins_of_the_applications_are_listed_until_their_keys_are_revoked(
    open_server: OpenServer,
) -> None:
    server = await open_server(public_url=LOGIN)
    origins = ("https://app.login.example.com", "https://shop.example", "https://shop.example.org:8443")
    applications = server.deployment.applications
    application, _ = await applications.create("shop", origins=origins, rp_id="login.example.com")
    answer = await server.get(PATH, base_url=LOGIN)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == {"origins": ["https://shop.example", "https://shop.example.org:8443"]}
    await applications.revoke(application.id)
    assert_problem(await server.get(PATH, base_url=LOGIN), 404, "not_found")


async def test_without_any_there_is_no_such_document(open_server: OpenServer) -> None:
    server = await open_server(public_url=LOGIN)
    applications = server.deployment.applications
    # One within its rp_id, one with Twofold's, and one whose rp_id is another host's business.
    await applications.create("inside", origins=["https://app.login.example.com"], rp_id="login.example.com")
    await applications.create("plain")
    origins = ["https://shop.example", "https://shop.example.org"]
    await applications.create("other", origins=origins, rp_id="shop.example")
    assert_problem(await server.get(PATH, base_url=LOGIN), 404, "not_found")


async def test_a_foreign_host_is_told_nothing(open_server: OpenServer) -> None:
    server = await open_server(public_url=LOGIN)
    origins = ["https://login.example.com", "https://shop.example"]
    await server.deployment.applications.create("shop", origins=origins, rp_id="login.example.com")
    assert_problem(await server.get(PATH, base_url="https://example.com"), 421, "bad_request")
    assert (await server.get(PATH, base_url=LOGIN)).status_code == 200


async def test_names_of_this_machine_are_one_host(open_server: OpenServer) -> None:
    server = await open_server()
    for url in (URL, "http://127.0.0.1:8000"):
        assert_problem(await server.get(PATH, base_url=url), 404, "not_found")
