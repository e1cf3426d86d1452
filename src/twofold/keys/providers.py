"""Opening the key provider that an address names. Each kind is imported only where it is used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

from twofold.errors import ConfigurationError
from twofold.key_ports import KeyProvider
from twofold.keys.patience import PatientProvider
from twofold.keys.secret import PASSPHRASE, read_secret
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
