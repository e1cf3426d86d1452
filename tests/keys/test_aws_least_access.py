"""The policies of `deploy/aws/`, set up with the very commands of its README.

moto enforces what the policy of a role says of actions. It knows no resources of KMS (so `Resource` is `*` in there),
no conditions, and of key policies nothing. Those are judged below by a small reading of the rules of IAM.
"""

import http.client
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import closing
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import boto3.session
import pytest
from botocore import xform_name
from botocore.exceptions import ClientError
from tests.keys.aws import REGION, Credentials, client, open_provider, running_moto, use_credentials
from tests.keys.contract_provider import KEY

from twofold.errors import KeyRefused
from twofold.keys.aws_kms import AwsKmsProvider

FOLDER = Path(__file__).parents[2] / "deploy" / "aws"
README = (FOLDER / "README.md").read_text(encoding="utf-8")
ACCOUNT = "123456789012"
DEPLOYMENT = "production"
VERIFIER, ADMINISTRATOR, DEVELOPER = ROLES = ("twofold-verifier", "twofold-key-administrator", "twofold-developer")
POLICY_OF = dict(zip(ROLES, ("verifier-role.json", "key-administrator-role.json", "developer-role.json"), strict=True))
LOOK_AFTER = {"DescribeKey", "GetKeyPolicy", "GetKeyRotationStatus", "ListKeyRotations", "EnableKeyRotation"} | {
    "RotateKeyOnDemand", "EnableKey", "DisableKey", "ScheduleKeyDeletion", "CancelKeyDeletion"
}  # fmt: skip
USE = {"GenerateDataKey", "Decrypt"}


def fill_in(text: str, key_id: str = "1234abcd-12ab-34cd-56ef-1234567890ab") -> str:
    """Do what the README says of names that begin with YOUR_."""
    values = {"ACCOUNT": ACCOUNT, "REGION": REGION, "DEPLOYMENT": DEPLOYMENT, "KEY_ID": key_id}
    return re.sub(r"YOUR_([A-Z_]*[A-Z])", lambda name: values[name[1]], text)


def read_policy(name: str) -> Any:
    return json.loads(fill_in((FOLDER / name).read_text(encoding="utf-8")))


# --- the commands of the README, and three roles at moto --------------------------------------------------------------


class Command(NamedTuple):
    service: str
    operation: str
    arguments: dict[str, str]


def commands() -> list[Command]:
    """Every `aws …` of the README."""
    lines = "\n".join(re.findall(r"^```sh\n(.*?)^```", README, re.DOTALL | re.MULTILINE)).replace("\\\n", " ")
    words = [shlex.split(line) for line in lines.splitlines() if line.startswith("aws ")]
    return [Command(w[1], w[2], dict(zip(w[3::2], w[4::2], strict=True))) for w in words]


def run(endpoint: str, command: Command, key_id: str) -> Any:
    """Run a command as the AWS CLI would, at moto."""
    with closing(client(endpoint, command.service)) as aws:
        operation = command.operation.replace("-", "_")
        inputs = aws.meta.service_model.operation_model(aws.meta.method_to_api_mapping[operation]).input_shape.members
        names = {"--" + xform_name(name, "-"): name for name in inputs}
        arguments = {}
        for option, text in command.arguments.items():
            if option == "--region":
                continue
            if text.startswith("file://"):
                text = re.sub(r'"arn:aws:kms:[^"]*"', '"*"', (FOLDER / text[7:]).read_text(encoding="utf-8"))  # noqa: PLW2901
            arguments[names[option]] = fill_in(text, key_id)
        return getattr(aws, operation)(**arguments)


class Aws(NamedTuple):
    """An AWS where the README was followed, and that enforces the policies of roles from then on."""

    endpoint: str
    key_id: str
    credentials: Mapping[str, Credentials]

    def kms(self, role: str) -> Any:
        return closing(client(self.endpoint, "kms", self.credentials[role]))

    def provider(self, role: str) -> AwsKmsProvider:
        return open_provider(self.key_id, endpoint=self.endpoint, profile=role, deployment=DEPLOYMENT)


@pytest.fixture(scope="module")
def followed() -> Iterator[Aws]:
    with running_moto() as endpoint:
        key_id = ""
        for command in commands():
            answer = run(endpoint, command, key_id)
            if command.operation == "create-key":
                key_id = answer["KeyMetadata"]["KeyId"]
            elif command.operation == "disable-key":
                with closing(client(endpoint, "kms")) as kms:
                    kms.enable_key(KeyId=key_id)
        credentials = {}
        with closing(client(endpoint, "sts")) as sts:
            for role in ROLES:
                given = sts.assume_role(RoleArn=f"arn:aws:iam::{ACCOUNT}:role/{role}", RoleSessionName="a-test")
                keys = given["Credentials"]
                credentials[role] = Credentials(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])
        # From now on every action is judged by the policies of whoever asks.
        with closing(http.client.HTTPConnection(endpoint.removeprefix("http://"))) as moto:
            moto.request("POST", "/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"})
            assert moto.getresponse().status == 200
        yield Aws(endpoint, key_id, credentials)


@pytest.fixture
def aws(followed: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Aws:
    use_credentials(monkeypatch, tmp_path, followed.credentials)
    return followed


async def test_the_verifier_wraps_and_unwraps_with_its_two_rights(aws: Aws) -> None:
    provider = aws.provider(VERIFIER)
    wrapping = await provider.wrap(KEY, key_id="data-1")
    assert (await provider.unwrap(wrapping.wrapped, key_id="data-1")).key == KEY


@pytest.mark.parametrize("role", [ADMINISTRATOR, DEVELOPER])
async def test_nobody_else_wraps_or_unwraps(aws: Aws, role: str) -> None:
    wrapped = (await aws.provider(VERIFIER).wrap(KEY, key_id="data-1")).wrapped
    for ask in (
        lambda: aws.provider(role).wrap(KEY, key_id="data-1"),
        lambda: aws.provider(role).unwrap(wrapped, key_id="data-1"),
    ):
        with pytest.raises(KeyRefused, match="may not use it"):
            await ask()
    assert (await aws.provider(VERIFIER).unwrap(wrapped, key_id="data-1")).key == KEY


async def test_the_administrator_rotates_and_the_verifier_opens_what_was_wrapped_before(aws: Aws) -> None:
    provider = aws.provider(VERIFIER)
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    with aws.kms(ADMINISTRATOR) as kms:
        assert kms.rotate_key_on_demand(KeyId=aws.key_id)["KeyId"] == aws.key_id
        assert kms.get_key_rotation_status(KeyId=aws.key_id)["KeyRotationEnabled"] is True
    assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY


def test_the_administrator_looks_after_the_key_and_may_undo_it(aws: Aws) -> None:
    with aws.kms(ADMINISTRATOR) as kms:
        kms.disable_key(KeyId=aws.key_id)
        kms.schedule_key_deletion(KeyId=aws.key_id, PendingWindowInDays=30)
        assert kms.describe_key(KeyId=aws.key_id)["KeyMetadata"]["KeyState"] == "PendingDeletion"
        kms.cancel_key_deletion(KeyId=aws.key_id)
        kms.enable_key(KeyId=aws.key_id)
        assert kms.describe_key(KeyId=aws.key_id)["KeyMetadata"]["KeyState"] == "Enabled"


CALLS = {
    "describe_key": {},
    "rotate_key_on_demand": {},
    "disable_key": {},
    "schedule_key_deletion": {"PendingWindowInDays": 7},
    "put_key_policy": {"PolicyName": "default", "Policy": "{}"},
    "create_grant": {"GranteePrincipal": "x", "Operations": ["Decrypt"]},
    "generate_data_key": {"KeySpec": "AES_256"},
    "encrypt": {"Plaintext": b"x"},
}


@pytest.mark.parametrize(
    ("role", "call"),
    [
        *((DEVELOPER, call) for call in CALLS),
        *((VERIFIER, call) for call in CALLS if call != "generate_data_key"),
        *((ADMINISTRATOR, call) for call in ("put_key_policy", "create_grant", "generate_data_key", "encrypt")),
    ],
)
def test_what_a_role_need_not_do_it_may_not(aws: Aws, role: str, call: str) -> None:
    with aws.kms(role) as kms, pytest.raises(ClientError) as refused:
        getattr(kms, call)(KeyId=aws.key_id, **CALLS[call])
    # moto says no in XML, which a client of KMS does not read: the status is left.
    assert refused.value.response["Error"]["Code"] == "403"


# --- what moto does not judge: resources, conditions, the key policy --------------------------------------------------


class Question(NamedTuple):
    """May `role`, by its own policy and the key's, do this with the key?"""

    role: str
    action: str
    context: Mapping[str, str] = {}
    own_policy: Any = None

    @property
    def facts(self) -> dict[str, str]:
        """What conditions may speak of."""
        context = {f"kms:EncryptionContext:{name}": text for name, text in self.context.items()}
        return {"aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:role/{self.role}"} | context


KEY_ARN = fill_in(f"arn:aws:kms:{REGION}:{ACCOUNT}:key/YOUR_KEY_ID")
ROOT = f"arn:aws:iam::{ACCOUNT}:root"


def is_allowed(question: Question, *more_in_the_key_policy: Any) -> bool:
    """IAM's rules within one account: a no anywhere is a no. A yes is the key policy's to the role itself, or to the
    account together with a yes of the role's own policy."""
    own, key = question.own_policy, read_policy("key-policy.json")
    key["Statement"] += more_in_the_key_policy
    if own is None:
        own = read_policy(POLICY_OF[question.role])
    own_effects = effects(own, question)
    named = effects(key, question, question.facts["aws:PrincipalArn"])
    of_account = effects(key, question, ROOT)
    if "Deny" in own_effects | named | of_account:
        return False
    return "Allow" in named or ("Allow" in of_account and "Allow" in own_effects)


def effects(policy: Any, question: Question, principal: str | None = None) -> set[str]:
    """What the statements say that speak of this action, this key, this principal, and whose conditions are met."""
    return {
        statement["Effect"]
        for statement in policy["Statement"]
        if any(fnmatchcase(f"kms:{question.action}", pattern) for pattern in as_list(statement["Action"]))
        and any(fnmatchcase(KEY_ARN, pattern) for pattern in as_list(statement["Resource"]))
        and (principal is None or statement["Principal"]["AWS"] in (principal, "*"))
        and all(
            is_met(operator, question.facts.get(name), wanted)
            for operator, wanted_facts in statement.get("Condition", {}).items()
            for name, wanted in wanted_facts.items()
        )
    }


def is_met(operator: str, fact: str | None, wanted: str) -> bool:
    """The two operators that the policies use. A fact that is missing equals nothing."""
    return {"StringEquals": fact == wanted, "ArnNotEquals": fact != wanted}[operator]


def as_list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else value


OURS = {"twofold:deployment": DEPLOYMENT, "twofold:key": "data-1"}
EVERYTHING = {"Statement": [{"Effect": "Allow", "Action": "kms:*", "Resource": "*"}]}
ACTIONS = sorted(boto3.session.Session().client("kms", region_name=REGION).meta.service_model.operation_names)


@pytest.mark.parametrize("action", sorted(USE))
@pytest.mark.parametrize(
    "context",
    [{}, {"twofold:key": "data-1"}, OURS | {"twofold:deployment": "trial"}, {"deployment": DEPLOYMENT}],
    ids=str,
)
def test_the_verifier_is_let_in_for_its_own_deployment_only(action: str, context: dict[str, str]) -> None:
    assert is_allowed(Question(VERIFIER, action, OURS))
    assert not is_allowed(Question(VERIFIER, action, context))


@pytest.mark.parametrize("action", ACTIONS)
def test_each_operation_of_kms_is_one_roles_or_nobodys(action: str) -> None:
    allowed = {role for role in ROLES if is_allowed(Question(role, action, OURS))}
    assert allowed == ({VERIFIER} if action in USE else {ADMINISTRATOR} if action in LOOK_AFTER else set())


@pytest.mark.parametrize("action", ACTIONS)
def test_a_role_that_may_do_everything_elsewhere_only_changes_the_policy_here(action: str) -> None:
    question = Question("power-user", action, OURS, EVERYTHING)
    assert is_allowed(question) == (action in {"DescribeKey", "GetKeyPolicy", "PutKeyPolicy"})


@pytest.mark.parametrize("action", ACTIONS)
def test_also_beside_the_statement_that_aws_adds_by_default_nobody_else_uses_the_key_or_hands_it_on(
    action: str,
) -> None:
    by_default = {"Effect": "Allow", "Principal": {"AWS": ROOT}, "Action": "kms:*", "Resource": "*"}
    is_use = re.match("Encrypt|Decrypt|ReEncrypt|GenerateDataKey|CreateGrant", action) is not None
    assert is_allowed(Question("power-user", action, OURS, EVERYTHING), by_default) == (not is_use)


def test_the_policies_of_roles_speak_of_this_key_alone_and_of_this_deployment_without_the_keys_help() -> None:
    for name in POLICY_OF.values():
        assert {statement["Resource"] for statement in read_policy(name)["Statement"]} == {KEY_ARN}
    for action in USE:
        assert effects(read_policy(POLICY_OF[VERIFIER]), Question(VERIFIER, action, OURS)) == {"Allow"}
        assert effects(read_policy(POLICY_OF[VERIFIER]), Question(VERIFIER, action)) == set()


@pytest.mark.parametrize("role", [ADMINISTRATOR, DEVELOPER])
@pytest.mark.parametrize("action", sorted(USE))
def test_more_rights_by_mistake_do_not_open_keys(role: str, action: str) -> None:
    more = {"Statement": read_policy(POLICY_OF[role])["Statement"] + EVERYTHING["Statement"]}
    assert not is_allowed(Question(role, action, OURS, more))
    assert not is_allowed(Question(role, action, OURS, EVERYTHING))


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.json")))
def test_every_action_in_a_policy_exists_and_every_file_is_explained(name: str) -> None:
    for statement in read_policy(name)["Statement"]:
        for pattern in as_list(statement["Action"]):
            assert any(fnmatchcase(f"kms:{action}", pattern) for action in ACTIONS), pattern
    assert name in README
    assert f"file://{name}" in README
