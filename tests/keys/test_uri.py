import pytest

from twofold.errors import ConfigurationError
from twofold.keys.uri import KeyUri, read_uri


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("env:TWOFOLD_MASTER_KEY", KeyUri("env", "TWOFOLD_MASTER_KEY")),
        ("aws-kms:alias/twofold", KeyUri("aws-kms", "alias/twofold")),
        (
            "aws-kms:arn:aws:kms:eu-central-1:111122223333:key/1234?region=eu-central-1&deployment=shop",
            KeyUri(
                "aws-kms",
                "arn:aws:kms:eu-central-1:111122223333:key/1234",
                {"region": "eu-central-1", "deployment": "shop"},
            ),
        ),
        ("vault:https://v:8200/t/keys/t?namespace=", KeyUri("vault", "https://v:8200/t/keys/t", {"namespace": ""})),
        ("pkcs11:?module-path=%2Fusr%2Flib%2Fx.so", KeyUri("pkcs11", "", {"module-path": "/usr/lib/x.so"})),
        # A path is taken as it is: people have such folders.
        ("file:/var/lib/what? really/50%25 & more.key", KeyUri("file", "/var/lib/what? really/50%25 & more.key")),
        ("file:C:/keys/twofold.key", KeyUri("file", "C:/keys/twofold.key")),
    ],
)  # fmt: skip
def test_an_address_is_read(text: str, uri: KeyUri) -> None:
    assert read_uri(text) == uri


@pytest.mark.parametrize("text", ["", "twofold.key", "/var/lib/twofold.key", "aws-kms"])
def test_an_address_without_a_kind_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"expected kind:place, such as file:/path/to/twofold\.key"):
        read_uri(text)


@pytest.mark.parametrize("query", ["region", "a=1&b", "&&", "=1&"])
def test_options_without_a_value_are_refused(query: str) -> None:
    with pytest.raises(ConfigurationError, match="name=value"):
        read_uri(f"aws-kms:alias/twofold?{query}")
    assert read_uri("aws-kms:alias/twofold?").options == {}


def test_an_option_twice_is_refused_because_nobody_knows_which_counts() -> None:
    with pytest.raises(ConfigurationError, match="region"):
        read_uri("aws-kms:alias/twofold?region=a&region=b")


def test_an_option_that_a_kind_does_not_have_is_named_with_those_that_it_has() -> None:
    uri = read_uri("aws-kms:alias/twofold?region=a&colour=red")
    with pytest.raises(ConfigurationError, match="aws-kms: has no option 'colour'; it has region, deployment"):
        uri.check_options("region", "deployment")
    with pytest.raises(ConfigurationError, match="it has none"):
        uri.check_options()
    assert uri.check_options("region", "colour") is None
