"""One request of a person: who she is so far, what she sent, and how she is answered.

A page is a pair of functions from a Visit to a response. Which sessions reach it is in the table in
`pages/__init__.py`, and enforced in `gate.py`.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Literal, Protocol
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from twofold.core.account import Account
from twofold.core.attempt import PAGES, Context
from twofold.core.idempotency import IdempotencyKey
from twofold.core.session import Ending, Session
from twofold.core.sign_in import Bearer, Vouched
from twofold.core.verdict import Question
from twofold.engine import Caller
from twofold.errors import InvalidInput
from twofold.passkey_facts import find_credentials, has_verifying_passkey
from twofold.server import csrf
from twofold.server.addresses import Sender
from twofold.server.cookies import CSRF, KNOWN, SESSION
from twofold.server.forms import Form
from twofold.server.next_path import read_next
from twofold.server.pages.house import House
from twofold.server.templates import Visitor
from twofold.server.words import Sentence, Speech
from twofold.sign_in import Guest

#: Where a request holds whom the application around the pages vouches for, and her name. Nothing from outside gets
#: there.
VOUCHED = "twofold.vouched"
NAME = "twofold.name"


class AskedPasskey(msgspec.Struct, frozen=True):
    """A ceremony that a page is ready for. `options` is the browser's JSON, `challenge` goes back with the form."""

    ceremony: Literal["create", "get"]
    options: str
    challenge: str = ""


class Outcome(Protocol):
    """An ending that may bring the session's next token, and the browser's next value."""

    @property
    def session(self) -> str | None:
        """The token."""
        ...

    @property
    def browser(self) -> str | None:
        """The value."""
        ...


class Visit:
    """A request, on its way to a response."""

    def __init__(
        self,
        house: House,
        request: Request,
        sender: Sender,
        *,
        found: tuple[Bearer, Account] | None,
        ending: Ending | None,
        blocked_for_s: int,
    ) -> None:
        self.house = house
        self.request = request
        self.sender = sender
        self.bearer: Bearer | None = found[0] if found else None
        self.account: Account | None = found[1] if found else None
        self.ending = ending
        self.blocked_for_s = blocked_for_s
        self.form: Form = {}
        self.speech: Speech = house.words.choose(request.headers.get("accept-language", ""))
        self.now: int = house.clock.now()
        #: Who the application around the pages says this is.
        self.vouched: Vouched | None = request.scope.get(VOUCHED)
        self._csrf_value = house.cookies.read(request, CSRF)
        self._is_new_csrf_value = self._csrf_value is None
        self._kept: dict[str, str] = {}
        self._dropped: set[str] = set()

    @property
    def session(self) -> Session:
        """The session; only pages that nobody reaches without one ask for it."""
        assert self.bearer is not None  # noqa: S101
        return self.bearer.session

    @property
    def owner(self) -> Account:
        """The account of the session, as it was when the request came."""
        assert self.account is not None  # noqa: S101
        return self.account

    @property
    def name(self) -> str:
        """What people call the owner of the session."""
        return self.request.scope.get(NAME) or self.owner.id

    @property
    def bond(self) -> str:
        """What the session has to be tied to."""
        return self.vouched.bond if self.vouched is not None else ""

    @property
    def context(self) -> Context:
        """Where the request comes from."""
        return Context(
            self.sender.address,
            self.request.headers.get("user-agent"),
            self.house.cookies.read(self.request, KNOWN),
        )

    @property
    def guest(self) -> Guest:
        """The sender, as the steps before a session know him."""
        return Guest(self.context, self.sender.is_behind_unknown_proxy, self.blocked_for_s)

    @property
    def next_path(self) -> str:
        """Where to go after signing in, as the link or the form says: a page of ours, or ""."""
        return self.read_next(self.form.get("next") or self.request.query_params.get("next"))

    @property
    def aim(self) -> str:
        """Where to go once the sign-in is complete. Inside an application it began at the first of many pages, and goes
        on from the one that was asked for last."""
        latest = self.next_path if self.house.host is not None else ""
        return latest or self.session.next

    def read_next(self, path: str | None) -> str:
        """The path, if somebody may be led there; else ""."""
        return read_next(path, is_inside=self.house.host is not None)

    @property
    def binding(self) -> str:
        """What ties a question to this browser before anybody signed in."""
        return self.house.keys.index_digest(b"browser", self._own_csrf_value().encode()).hex()

    def path(self, name: str) -> str:
        """A part of the path, such as the id of an authenticator."""
        return str(self.request.path_params[name])

    def field(self, name: str) -> str:
        """What was typed into a field; "" where the form has none."""
        return self.form.get(name, "")

    @property
    def has_answer(self) -> bool:
        """Whether the form brings a code, or what a passkey gave."""
        return bool(self.field("code").strip() or self.field("credential"))

    @property
    def has_passkey(self) -> bool:
        """Whether the person has a passkey that works at this address."""
        rp = self.house.relying_party
        return rp is not None and any(credential.rp_id == rp.id for credential in find_credentials(self.owner))

    @property
    def needs_passkey(self) -> bool:
        """Whether the person may act on others and has a passkey that verifies its user: then nothing that a page which
        looks like ours could ask for opens what matters."""
        return self.owner.role == "administrator" and has_verifying_passkey(self.owner, self.house.relying_party)

    async def ask_passkey(self, purpose: str = "", *, needs_passkey: bool = False) -> AskedPasskey | None:
        """The question for one of the person's passkeys, for just this purpose; None without one that works here."""
        rp, passkeys = self.house.relying_party, self.house.verifier.passkeys
        if rp is None or not self.has_passkey:
            return None
        challenge = await passkeys.challenge(
            self.owner.id,
            rp,
            purpose=purpose or None,
            user_verification="required" if needs_passkey else "preferred",
            caller=Caller(self._application),
        )
        return AskedPasskey("get", msgspec.json.encode(challenge.public_key).decode(), challenge.id)

    def read_passkey(self, purpose: str = "", *, needs_passkey: bool = False) -> Question:
        """What a passkey gave, to be judged for just this purpose. Raises `InvalidInput`."""
        rp, passkeys = self.house.relying_party, self.house.verifier.passkeys
        if rp is None:
            raise InvalidInput("credential", "nothing: there are no passkeys at this address")
        ticket = passkeys.read_challenge(self.field("challenge"))
        credential = self.field("credential")
        return passkeys.read_answer(
            ticket, credential, rp, purpose=purpose or None, binding=None, needs_passkey=needs_passkey
        )

    async def caller(
        self,
        *,
        purpose: str | None = None,
        needs_passkey: bool = False,
        is_once: bool = False,
        ends_others: bool = False,
        may_enroll: bool = False,
    ) -> Caller:
        """The person as a caller of the verifier. With `purpose` the form's `code`, or what a passkey gave, is the
        proof of who calls, for just that; then `ends_others` ends all other sessions with it. With `is_once` the same
        form sent again ends as it did the first time. `may_enroll`: see `Caller`."""
        bearer = self.bearer
        assert bearer is not None  # noqa: S101 - only pages with a session call as somebody
        proof = None
        if purpose is not None and self.field("credential"):
            proof = self.read_passkey(purpose, needs_passkey=needs_passkey)
        elif purpose is not None:
            proof = await self.house.sign_in.prepare_proof(bearer, self.field("code"), purpose, self.context)
            proof = msgspec.structs.replace(proof, needs_passkey=needs_passkey)
        return Caller(
            self._application,
            # Whoever came by a link was let in to enroll, by somebody who may.
            is_admin=bearer.session.is_by_link and bearer.session.level == "enrolling",
            context=self.context,
            idempotency=self._find_idempotency() if is_once else None,
            session=bearer,
            proof=proof,
            ends_others=ends_others,
            may_enroll=may_enroll,
        )

    @property
    def _application(self) -> str:
        """As whom the pages call for this session: what it began is its own. In a prompt they call for the application
        that asks: what it brings about there opens nothing else here (decision 0016)."""
        asker = self.vouched.asker if self.vouched is not None else ""
        return f"{asker or PAGES}:{self.session.id}"

    def as_administrator(self) -> Caller:
        """The person as somebody who acts on another account; ask for a proof before."""
        return Caller(
            self._application,
            is_admin=True,
            context=self.context,
            idempotency=self._find_idempotency(),
            by=self.owner.id,
        )

    def keep(self, outcome: Outcome) -> None:
        """Have the browser keep the session's next token and its own next value, where there are some."""
        if outcome.session is not None:
            self._kept[SESSION] = outcome.session
        if outcome.browser is not None:
            self._kept[KNOWN] = outcome.browser

    def leave(self, cookie: str, value: str) -> None:
        """Have the browser keep a value of its own."""
        self._kept[cookie] = value

    def forget_session(self) -> None:
        """Have the browser forget its session."""
        self._kept.pop(SESSION, None)
        self._dropped.add(SESSION)

    def show(self, template: str, *, status: int = 200, retry_after_s: int | None = None, **values: Any) -> Response:
        """The page. With `error=` its title says so."""
        values.setdefault("error", None)
        values.setdefault("failed", values["error"] is not None)
        html = self.house.templates.render(
            template,
            self.speech,
            self.now,
            site=self.house.site,
            visitor=self._describe_visitor(),
            csrf=csrf.make_token(self.house.keys, self._own_csrf_value(), self._csrf_session_id()),
            form_id=secrets.token_urlsafe(16),
            next=self.next_path,
            **values,
        )
        if self.house.host is not None:
            html = self.house.host.place(html)
        headers = {"content-language": self.speech.tag}
        if retry_after_s is not None:
            headers["retry-after"] = str(max(1, retry_after_s))
        return HTMLResponse(html, status, headers)

    def go(self, path: str, *, status: int = 303) -> Response:
        """On to another page of ours, with GET."""
        return RedirectResponse(self.house.at(path), status)

    def tell(
        self,
        title: Sentence,
        why: Sentence | None = None,
        what_to_do: Sentence | None = None,
        *,
        status: int,
        wait_s: int | None = None,
        links: tuple[tuple[Sentence, str], ...] = (),
    ) -> Response:
        """A page that says what went wrong, why, and what to do."""
        return self.show(
            "error.html",
            status=status,
            retry_after_s=wait_s,
            title=title,
            why=why,
            what_to_do=what_to_do or "",
            wait_s=wait_s,
            links=links,
            failed=True,
        )

    def is_own_form(self, *, is_open: bool) -> bool:
        """Whether the form is one of ours, made for this browser and this session; on a page that is open to anybody,
        also one that was shown before the session began."""
        own = self._csrf_session_id()
        ids = (own, "") if is_open else (own,)
        token = self.field(csrf.FIELD)
        return csrf.is_own_form(self.request, self.house.public_url) and csrf.is_good_token(
            self.house.keys, token, self._csrf_value, ids
        )

    def _own_csrf_value(self) -> str:
        if self._csrf_value is None:
            self._csrf_value = csrf.new_value()
        return self._csrf_value

    def _csrf_session_id(self) -> str:
        return self.session.id if self.bearer else ""

    def _describe_visitor(self) -> Visitor | None:
        if self.bearer is None:
            return None
        owner = self.owner
        return Visitor(owner.id, self.name, owner.role == "administrator", self.session.level)

    def _find_idempotency(self) -> IdempotencyKey | None:
        """One form filled in alike, one act: the form carries an id of its own. Filled in otherwise, as after the back
        button, it is another act."""
        if not self.field("form"):
            return None
        path = self.request.url.path.encode()
        fields = [text.encode() for pair in sorted(self.form.items()) for text in pair]
        place = (self.session.id.encode(), path, *fields)
        digest = self.house.keys.index_digest(b"form", *place)
        return IdempotencyKey(digest[:16], digest[16:], self.house.keys.index_digest(b"form secret", *place))

    async def finish(self, response: Response) -> Response:
        """The response with the cookies that this visit leaves in the browser."""
        cookies, token = self.house.cookies, self._kept.get(SESSION)
        if token is not None and not isinstance(
            await self.house.sign_in.find(token, self.context.user_agent, self.bond), tuple
        ):
            # A form sent again ends as it did the first time; the browser holds a later token meanwhile.
            del self._kept[SESSION]
        if self._is_new_csrf_value and self._csrf_value is not None:
            cookies.put(response, CSRF, self._csrf_value)
        for name, value in self._kept.items():
            cookies.put(response, name, value)
        for name in self._dropped:
            cookies.drop(response, name)
        return response


def spell_query(values: Mapping[str, str]) -> str:
    """A query string of what is not empty, with its question mark."""
    given = {name: value for name, value in values.items() if value}
    return f"?{urlencode(given)}" if given else ""
