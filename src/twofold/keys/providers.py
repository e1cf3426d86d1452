"""Opening the key provider that an address names. Each kind is imported only where it is used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

from twofold.errors import ConfigurationError
from twofold.key_ports import KeyProvider
from twofold.keys.patience import PatientProvider
from twofold.keys.uri import read_uri
from twofold.ports import Entropy

#: The module and the class of each kind, and whether it may be slow or away for a while.
_KINDS = {
    "env": ("env", "EnvKeyProvider", False),
    "aws-kms": ("aws_kms", "AwsKmsProvider", True),
    "pkcs11": ("pkcs11", "Pkcs11KeyProvider", True),
    "vault": ("vault", "VaultProvider", True),
    "gcp-kms": ("gcp_kms", "GcpKmsProvider", True),
    "azure-kv": ("azure_kv", "AzureKeyVaultProvider", True),
}
#: Settings that are secrets: they are read here and nowhere else, so that no struct of settings can show them.
PASSPHRASE = "TWOFOLD_KEY_PASSPHRASE"  # noqa: S105 - the name of a variable


def open_provider(
    address: str, entropy: Entropy, environment: Mapping[str, str], *, may_create: bool = False
) -> KeyProvider:
    """The provider at an address such as `file:/path` or `aws-kms:alias/twofold`; raises `ConfigurationError`.

    `may_create`: a key file that is not there is made, which is right for a new database only.
    """
    uri = read_uri(address)
    if uri.kind == "file":
        from twofold.keys.file import FileKeyProvider  # noqa: PLC0415 - as all of them, for one of them is used

        passphrase = read_secret(environment, PASSPHRASE)
        return FileKeyProvider.open(Path(uri.place), entropy, may_create=may_create, passphrase=passphrase)
    if uri.kind not in _KINDS:
        raise ConfigurationError(f"KEY_PROVIDER {uri.kind}: is none of file, {', '.join(_KINDS)}")
    module, name, is_across_network = _KINDS[uri.kind]
    kind = getattr(importlib.import_module(f"twofold.keys.{module}"), name)
    provider: KeyProvider = kind.open(uri, entropy, environment)
    return PatientProvider(provider) if is_across_network else provider


def read_secret(environment: Mapping[str, str], name: str) -> str | None:
    """What a variable says, or the file named by the variable with `_FILE` behind it; raises `ConfigurationError`."""
    if name in environment:
        return environment[name]
    path = environment.get(f"{name}_FILE")
    if path is None:
        return None
    try:
        return Path(path).read_text("utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{name}_FILE {path}: cannot be read ({error})") from None
