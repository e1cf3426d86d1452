import pytest

from twofold.core.user_agent import describe_browser


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Version/18.0 Safari/604.1",
            "Safari on iPhone",
        ),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/140.0 Safari/537.36 Edg/140.0", "Edge on Windows"),
        ("Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 Chrome/140.0 Mobile Safari/537.36", "Chrome on Android"),
        ("curl/8.5", "curl"),
        ("Something (Macintosh)", "macOS"),
        ("", ""),
        (None, ""),
    ],
)
def test_a_browser_is_called_what_people_call_it(user_agent: str | None, name: str) -> None:
    assert describe_browser(user_agent) == name


def test_another_version_is_the_same_browser() -> None:
    assert describe_browser("Firefox/140.0 (Linux)") == describe_browser("Firefox/141.0 (Linux)")
