"""The shape of the house as tests: who may import whom, what stays pure, and the alarms that tell when it is lost.

The rules are functions from (module name, source) to the faults found, so that each rule is itself shown to bite.
"""

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "twofold"

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
PORT_METHODS_MAX = 6
FACTOR_MEMBERS_MAX = 8

ANYTHING = "*"
PURE_STDLIB = (
    "__future__ base64 binascii collections dataclasses datetime enum functools hashlib hmac ipaddress itertools json "
    "math re string struct types typing unicodedata urllib.parse uuid"
)

# The verifier and what stands beside it: all that waits without knowing HTTP or a concrete class.
SHELL = "core ports crypto engine hash_pool credentials recovery"
SERVER = (
    "core ports config verifier passkeys passkey_facts relying_party lost_passkeys directory engine credentials"
    " applications inspection sign_in sign_in_limits networks administration setup_link crypto.digest"
    " factors.otpauth factors.webauthn_json prompts qr server"
)

ATTESTATION = "factors.cbor factors.cose factors.authenticator_data factors.attestation " + " ".join(
    f"factors.attestation_{part}" for part in ("formats", "structures", "trust")
)

# What a module may import, by the longest name that fits it: names inside twofold, then packages from outside.
# `errors` is open to all. The standard library is open to all but the pure rooms, which see `PURE_STDLIB` only.
MAY_IMPORT: dict[str, tuple[str, str]] = {
    "errors": ("", ""),
    "core": ("core", "msgspec"),
    "crypto": ("crypto", "cryptography argon2 msgspec"),
    "crypto.receipt": ("crypto core.decision", "cryptography msgspec"),
    "crypto.ticket": ("crypto core.ticket", "cryptography msgspec"),
    "factors": ("core crypto", "msgspec"),
    # WebAuthn is one factor in several files; none of them knows another factor.
    "factors.cbor": ("", ""),
    "factors.cose": ("factors.cbor", "cryptography"),
    "factors.authenticator_data": ("factors.cbor", "msgspec"),
    "factors.attestation": (ATTESTATION, "cryptography msgspec"),
    "factors.attestation_formats": (ATTESTATION, "cryptography msgspec"),
    "factors.attestation_structures": ("", "cryptography"),
    "factors.attestation_trust": ("", "cryptography msgspec"),
    "factors.webauthn": (f"core factors.webauthn_json {ATTESTATION}", "cryptography.exceptions msgspec"),
    "factors.yubico_otp": ("core crypto", "cryptography msgspec"),
    "factors.__init__": ("core factors", ""),
    "qr": ("", "segno"),
    "ports": ("core", "msgspec"),
    "key_ports": ("core", "msgspec"),
    "config": ("core", "msgspec"),
    "clocks": ("core ports", ""),
    "hash_pool": ("ports", ""),
    "engine": ("core ports hash_pool", "msgspec"),
    "credentials": ("core ports crypto factors hash_pool", "msgspec"),
    "directory": (f"{SHELL} factors", "msgspec"),
    "applications": (f"{SHELL} relying_party config.is_loopback", "msgspec"),
    "relying_party": ("ports factors.webauthn_json", "publicsuffixlist"),
    "lost_passkeys": ("core ports factors.webauthn relying_party setup_link", "msgspec"),
    "recovery": (SHELL, ""),
    "passkeys": (f"{SHELL} directory factors passkey_facts relying_party", "msgspec"),
    "passkey_facts": ("core factors", "msgspec"),
    "sign_in": (f"{SHELL} directory passkeys sign_in_limits verifier", "msgspec"),
    "administration": (f"{SHELL} directory sign_in", "msgspec"),
    "mass_reset": (f"{SHELL} administration directory key_ports", "msgspec"),
    "prompts": (f"{SHELL} directory factors.webauthn_json passkey_facts sign_in", "msgspec"),
    "networks": (SHELL, "msgspec"),
    "sign_in_limits": (f"{SHELL} networks", "msgspec"),
    "delivery": ("core ports", "msgspec"),
    "importing": (f"{SHELL} factors verifier importing", "msgspec"),
    "inspection": (SHELL, "msgspec"),
    "backup": ("crypto keys.env keys.local keys.uri ports stores._sqlite_file", "msgspec"),
    "restoring": ("backup core crypto.parcel factors ports stores._sqlite_file", "msgspec"),
    "setup_link": ("core ports", "msgspec"),
    "key_audit": ("core engine key_ports keys.trace", ""),
    "resealing": ("core ports crypto.seal engine credentials keys.keyring", "msgspec"),
    "upkeep": ("core.clock delivery key_audit keys ports resealing", ""),
    "certificate": ("", "cryptography msgspec"),
    "fido_metadata": ("config factors.attestation_trust", "cryptography msgspec"),
    "doctor": (
        "certificate clocks config core databases doctor fido_metadata key_ports keys ports relying_party stores",
        "asyncpg msgspec",
    ),
    # Everything is moved row by row, from one kind of database to another.
    "migrating": ("core key_ports setup_link stores", ""),
    # `Verifier.open` is written down in the API, so this one function of the bootstrap is imported late in there.
    "verifier": (f"{SHELL} directory passkeys qr bootstrap.open_embedded", "msgspec"),
    "keys": ("core ports key_ports crypto keys config.is_loopback", "cryptography msgspec"),
    # The libraries of those who need them: extras, imported where an address names them.
    "keys.aws_kms": ("core ports key_ports crypto keys config.is_loopback", "boto3 botocore cryptography"),
    "keys.pkcs11_token": ("core ports key_ports crypto keys", "pkcs11"),
    "keys.gcp_kms": ("core ports key_ports crypto keys", "google msgspec"),
    "keys.azure_kv": ("core ports key_ports crypto keys", "azure cryptography msgspec"),
    "keys.https_json": ("keys config.is_loopback", "httpx msgspec"),
    # asyncpg is an extra: `databases` imports the PostgreSQL store where an address names it.
    "stores": ("core ports key_ports stores", "asyncpg msgspec"),
    "databases": ("config stores", ""),
    "stores._contract": ("core ports key_ports stores", "hypothesis msgspec pytest"),
    "senders": ("core ports senders", ""),
    "server": (SERVER, "msgspec prometheus_client starlette"),
    # The two that put a deployment and a web server around it.
    "server.app": (f"{SERVER} bootstrap setup_link", "msgspec prometheus_client starlette"),
    "server.run": (f"{SERVER} bootstrap certificate clocks setup_link", "msgspec uvicorn"),
    "server.protocol": ("", "uvicorn"),
    # The ground of the pages knows HTML and languages, and nothing of accounts.
    "server.words": ("core.clock", "babel msgspec"),
    "server.templates": ("server.static server.words", "jinja2 markupsafe msgspec"),
    "server.static": ("", "msgspec starlette"),
    # The same pages inside another application, which opens the deployment itself.
    "server.embedded": (f"{SERVER} bootstrap", "msgspec starlette"),
    # What stands before the applications of others; the room of a framework knows that one alone.
    "integrations": (f"{SERVER} blocking bootstrap portal integrations", "markupsafe msgspec starlette"),
    "integrations.flask": ("core blocking config verifier integrations", "flask msgspec"),
    "integrations.flask_request": (f"{SERVER} integrations", "flask"),
    "integrations.starlette": ("core config verifier integrations", "anyio fastapi jinja2 starlette"),
    "integrations.asgi": ("core config verifier integrations", "msgspec"),
    "integrations.django": ("core config verifier integrations", "asgiref django msgspec"),
    "portal": ("", ""),
    "client": ("client core.account core.decision core.discreet", "httpx msgspec"),
    "blocking": ("core engine verifier passkeys directory credentials factors.webauthn_json bootstrap portal", ""),
    "bootstrap": (ANYTHING, ANYTHING),
    "testing": (ANYTHING, ANYTHING),
    "cli": (ANYTHING, ANYTHING),
    "commands": (ANYTHING, ANYTHING),
    "__main__": ("cli", ""),
    "__init__": ("core engine verifier passkeys directory blocking factors.webauthn_json", ""),
}

PURE = ("core", "factors", "crypto")
EMPTY_NAMES = {"base", "common", "handler", "helpers", "manager", "misc", "utils"}
CLOCK_READINGS = {"now", "today", "utcnow"}
RANDOM_DRAWS = {"generate", "generate_key", "generate_private_key"}


def lies_in(name: str, rooms: tuple[str, ...]) -> bool:
    """Whether the dotted `name` is one of `rooms` or lies inside one."""
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def imported_names(tree: ast.AST) -> Iterator[str]:
    """Every name that the module imports, in full: `from a.b import c` is `a.b.c`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (f"{node.module}." if node.module else "")
            yield from (module + alias.name for alias in node.names)


def row_of(module: str) -> str | None:
    """The row of `MAY_IMPORT` that speaks for the module: the longest that fits."""
    return max((room for room in MAY_IMPORT if lies_in(module, (room,))), key=len, default=None)


def wrong_imports(module: str, tree: ast.Module) -> Iterator[str]:
    row = row_of(module)
    if row is None:
        yield "has no row in MAY_IMPORT: which room does it belong to?"
        return
    inside, outside = (tuple(names.split()) for names in MAY_IMPORT[row])
    for name in imported_names(tree):
        if name.startswith("."):
            yield f"imports {name}: relative"
        elif name.startswith("twofold."):
            target = name.removeprefix("twofold.")
            if ANYTHING not in inside and not lies_in(target, (*inside, "errors", "__version__")):
                yield f"imports {target}: {row} may not"
        elif name.partition(".")[0] in sys.stdlib_module_names:
            if lies_in(module, PURE) and not lies_in(name, tuple(PURE_STDLIB.split())):
                yield f"imports {name}: not pure"
        elif ANYTHING not in outside and not lies_in(name, outside):
            yield f"imports {name}: {row} may not"


def impurities(module: str, tree: ast.Module) -> Iterator[str]:
    if not lies_in(module, PURE):
        return
    for node in ast.walk(tree):
        match node:
            case ast.AsyncFunctionDef(name=name):
                yield f"async def {name}: nothing waits here"
            case ast.Attribute(attr=attr, value=value) if attr in CLOCK_READINGS and is_date_class(value):
                yield f"reads the clock with {attr}"
            case ast.Call(func=ast.Attribute(attr=attr)) if attr in RANDOM_DRAWS:
                yield f"draws randomness with {attr}"
            case ast.Call(func=ast.Name(id="open" | "print" | "input" as name)):
                yield f"calls {name}: no input or output here"


def is_date_class(node: ast.expr) -> bool:
    """Whether the expression ends in `date` or `datetime`."""
    return getattr(node, "attr", getattr(node, "id", None)) in {"date", "datetime"}


def weak_choices(_module: str, tree: ast.Module) -> Iterator[str]:
    """What has no place anywhere in the program: a predictable generator, bare random ids, a broken hash."""
    yield from ("imports random: predictable" for name in imported_names(tree) if lies_in(name, ("random",)))
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=word) | ast.Attribute(attr=word) | ast.alias(name=word) | ast.Constant(value=str(word)):
                if word.lower() == "md5":
                    yield "names MD5: broken"
                if word == "uuid4" and not isinstance(node, ast.Constant):
                    yield "names uuid4: randomness comes from the Entropy port"


def empty_names(module: str, _tree: ast.Module) -> Iterator[str]:
    yield from (f"{part}: says nothing" for part in module.split(".") if part.strip("_") in EMPTY_NAMES)


def too_long(_module: str, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield f"{node.name}: {lines} lines, at most {FUNCTION_LINES_MAX}"


def wide_faces(_module: str, tree: ast.Module) -> Iterator[str]:
    """A port has few methods, and the face of a factor few members: a wide one is two."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any(
            ast.unparse(face).partition("[")[0] in ("Protocol", "typing.Protocol") for face in node.bases
        ):
            members = [n for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.AnnAssign)]
            methods = [member for member in members if not isinstance(member, ast.AnnAssign)]
            count, most = (
                (len(members), FACTOR_MEMBERS_MAX) if node.name == "Factor" else (len(methods), PORT_METHODS_MAX)
            )
            if count > most:
                yield f"{node.name}: a face of {count}, at most {most}"


Rule = Callable[[str, ast.Module], Iterator[str]]
RULES: tuple[Rule, ...] = (wrong_imports, impurities, weak_choices, empty_names, too_long, wide_faces)


def faults(module: str, source: str) -> list[str]:
    """All faults of one module; `module` is its dotted name inside twofold."""
    tree = ast.parse(source)
    lines = source.count("\n")
    found = [f"{lines} lines, at most {FILE_LINES_MAX}"] if lines > FILE_LINES_MAX else []
    return found + [fault for rule in RULES for fault in rule(module, tree)]


def module_name(path: Path) -> str:
    """`core/throttle.py` is `core.throttle`; a folder's `__init__.py` stands for the folder but for its own row."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    name = ".".join(parts)
    return name if parts[-1] != "__init__" or name in MAY_IMPORT else ".".join(parts[:-1])


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=module_name)
def test_module_keeps_to_its_room(path: Path) -> None:
    assert faults(module_name(path), path.read_text(encoding="utf-8")) == []


GOOD = {
    "core.sample": "import hashlib\nfrom datetime import datetime\nfrom twofold.core.account import Account\n",
    "factors.sample": "from twofold.core.factor import Factor\nfrom twofold.crypto import otp\n",
    "crypto.receipt": "from twofold.core.decision import ReceiptClaims\nfrom twofold.errors import InvalidInput\n",
    "stores.sample": "import asyncio\nimport sqlite3\nfrom twofold.ports import Accounts\n",
    "server.sample": "from twofold.crypto.digest import digest\nfrom twofold import __version__\n",
    "server.run": "import uvicorn\nfrom twofold.bootstrap import deployment\n",
    "blocking": "from twofold import bootstrap\n",
    "cli": "import click\nfrom twofold.stores.sqlite import SqliteStore\n",
    "ports": "class Port(Protocol):\n" + "".join(f"    async def m{n}(self): ...\n" for n in range(6)),
    "core.factor": "class Factor(Protocol):\n" + "".join(f"    def m{n}(self): ...\n" for n in range(8)),
    "keys.sample": "def long():\n" + "    pass\n" * 59,
    "qr": "\n" * FILE_LINES_MAX,
}

BAD = {
    "imports random: predictable": ("cli", "import random"),
    "imports time: not pure": ("core.sample", "import time"),
    "imports os.urandom: not pure": ("crypto.sample", "from os import urandom"),
    "imports logging: not pure": ("factors.sample", "def f():\n    import logging"),
    "imports secrets.token_bytes: not pure": ("core.sample", "from secrets import token_bytes"),
    "imports joserfc.jwt: crypto may not": ("crypto.sample", "from joserfc import jwt"),
    "imports segno: server may not": ("server.sample", "import segno"),
    "imports crypto.seal: server may not": ("server.sample", "from twofold.crypto import seal"),
    "imports crypto.otp: core may not": ("core.sample", "from twofold.crypto import otp"),
    "imports ports.Clock: core may not": ("core.sample", "if TYPE_CHECKING:\n    from twofold.ports import Clock"),
    "imports factors.totp.Totp: factors may not": ("factors.sample", "from twofold.factors.totp import Totp"),
    "imports factors.totp: stores may not": ("stores.sample", "import twofold.factors.totp"),
    "imports bootstrap: verifier may not": ("verifier", "from twofold import bootstrap"),
    "imports bootstrap.open_embedded: directory may not": (
        "directory",
        "from twofold.bootstrap import open_embedded",
    ),
    "imports bootstrap.open_verifier: server may not": ("server.api", "from twofold.bootstrap import open_verifier"),
    "imports .account: relative": ("core.sample", "from . import account"),
    "has no row in MAY_IMPORT: which room does it belong to?": ("newcomer", ""),
    "async def f: nothing waits here": ("core.sample", "async def f(): ..."),
    "reads the clock with now": ("core.sample", "from datetime import datetime\ndatetime.now()"),
    "reads the clock with today": ("core.sample", "import datetime as d\nd.date.today()"),
    "draws randomness with generate": ("crypto.sample", "Ed25519PrivateKey.generate()"),
    "calls print: no input or output here": ("core.sample", "print()"),
    "names MD5: broken": ("stores.sample", "import hashlib\nhashlib.new('MD5')"),
    "names uuid4: randomness comes from the Entropy port": ("server.sample", "from uuid import uuid4"),
    "utils: says nothing": ("server.utils", ""),
    "f: 61 lines, at most 60": ("cli", "def f():\n" + "    pass\n" * 60),
    "401 lines, at most 400": ("cli", "\n" * 401),
    "P: a face of 7, at most 6": (
        "ports",
        "class P(Protocol):\n" + "".join(f"    async def m{n}(self): ...\n" for n in range(7)),
    ),
    "Factor: a face of 9, at most 8": (
        "core.factor",
        "class Factor(Protocol):\n    name: str\n" + "".join(f"    def m{n}(self): ...\n" for n in range(8)),
    ),
}


@pytest.mark.parametrize(("module", "source"), GOOD.items())
def test_a_module_within_its_rights_has_no_faults(module: str, source: str) -> None:
    assert faults(module, source) == []


@pytest.mark.parametrize(("fault", "sample"), BAD.items())
def test_each_fault_is_found(fault: str, sample: tuple[str, str]) -> None:
    assert fault in faults(*sample)
