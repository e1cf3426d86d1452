"""Every page in every state, one after the other, as one long walk with a mouse through the life of a deployment.

`screens.py` takes its pictures on this walk, and `stories/test_accessibility.py` looks at each stop with axe. What the
pages say and do is shown by the journeys, not here.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.browsers import Authenticator, BrowserVisitor
from tests.forms import FormVisitor
from tests.people import Person, reset_link, setup_link
from tests.servers import Clock, Server

#: As long as they may be, without a place to break, and with what must not be taken for markup.
LONG_LABEL = "</p><b>" + 57 * "W"
LONG_NAME = "dee-" + 112 * "m" + "@example.org"

Stop = tuple[str, BrowserVisitor]


@dataclass
class Walk:
    """`new_visitor` opens a window of its own. Each chapter stands on the ones before."""

    server: Server
    clock: Clock
    new_visitor: Callable[[], BrowserVisitor]
    people: dict[str, Person] = field(default_factory=dict)
    elsewhere: list[FormVisitor] = field(default_factory=list)

    def stops(self) -> Iterator[Stop]:
        """The name of a state, and the visitor who sees it now."""
        yield from self.first_run()
        yield from self.signing_in()
        yield from self.wrong_codes()
        yield from self.attack()
        yield from self.own_security()
        yield from self.another_authenticator()
        yield from self.passkeys()
        yield from self.administration()
        yield from self.acting_with_a_passkey()
        yield from self.links()
        yield from self.refusals()
        yield from self.reset_of_many()

    @property
    def ada(self) -> Person:
        return self.people["ada"]

    def first_run(self) -> Iterator[Stop]:
        visitor = self.new_visitor()
        ada = self.people["ada"] = Person("ada", visitor, self.clock)
        visitor.open("/sign-in")
        yield "sign-in-before-set-up", visitor
        visitor.open("/setup?token=wrong", expect={403})
        yield "set-up-bad-link", visitor
        visitor.open(setup_link(self.server))
        yield "set-up", visitor
        visitor.send(name="ada", new_password="password")
        yield "set-up-error", visitor
        visitor.send(name="ada", new_password=ada.password)
        yield "enroll", visitor
        ada.begin_app()
        yield "enroll-app", visitor
        visitor.send(code=ada.wrong_code())
        yield "enroll-app-wrong-code", visitor
        ada.prove_app(label="Ada's phone")
        yield "enroll-recovery-codes", visitor
        ada.keep_codes()
        yield "enroll-done", visitor
        visitor.follow("/security")
        yield "security-first", visitor
        visitor.open("/sign-out")
        yield "sign-out", visitor
        visitor.send(to="/sign-out")
        yield "signed-out", visitor

    def signing_in(self) -> Iterator[Stop]:
        visitor = self.ada.visitor
        visitor.open("/sign-in")
        yield "sign-in", visitor
        self.ada.give_password("violet harbour 1927")
        yield "sign-in-wrong", visitor
        visitor.open("/sign-in/help")
        yield "sign-in-help", visitor
        self.ada.give_password()
        yield "sign-in-code", visitor
        visitor.open("/sign-in/code?letters=1")
        yield "sign-in-code-letters", visitor
        self.ada.give_code()

    def wrong_codes(self) -> Iterator[Stop]:
        visitor = self.new_visitor()
        bo = self.people["bo"] = self.invited("bo").at(visitor)
        bo.give_password()
        bo.give_code(bo.wrong_code())
        yield "code-wrong", visitor
        bo.phone_behind_s = 4 * 60
        self.clock.advance(6 * 60)
        bo.sign_out()
        bo.give_password()
        bo.give_code()
        bo.give_code()
        yield "code-clock-behind", visitor
        bo.phone_behind_s = 0
        bo.give_code()
        bo.sign_out()
        bo.give_password()
        self.clock.advance(10)
        bo.give_code(bo.code())
        yield "code-used", visitor
        for _ in range(4):
            bo.give_code(bo.wrong_code())
        yield "code-throttled", visitor
        self.clock.advance(11 * 60)
        bo.give_code()
        yield "sign-in-expired", visitor

    def attack(self) -> Iterator[Stop]:
        self.clock.advance(15 * 60)
        visitor = self.new_visitor()
        cy = self.people["cy"] = self.invited("cy").at(visitor)
        cy.at(self.form_visitor()).guess()
        cy.give_password()
        cy.give_code()
        yield "code-under-attack", visitor
        cy.give_three_codes()
        yield "in-under-attack", visitor
        cy.assert_signed_in()
        yield "security-after-attack", visitor
        cy.sign_out()
        cy.give_password()
        cy.give_code(cy.recovery_codes[0])
        yield "in-by-recovery-code", visitor

    def own_security(self) -> Iterator[Stop]:
        self.clock.advance(15 * 60)
        ada, visitor = self.ada, self.ada.visitor
        ada.at(self.form_visitor()).sign_in()
        ada.sign_in() if visitor.open("/security").path != "/security" else None
        yield "security", visitor
        visitor.open("/security/activity")
        yield "activity", visitor
        mine = ada.authenticator_paths()[0]
        visitor.open(mine)
        yield "authenticator", visitor
        visitor.open(f"{mine}/remove")
        yield "authenticator-remove-last", visitor
        visitor.open("/security/password")
        yield "password", visitor
        visitor.send(password=ada.password, new_password="password", code=ada.fresh_code())
        yield "password-error", visitor
        visitor.open("/security/test")
        yield "test-a-code", visitor
        visitor.send(code=ada.fresh_code())
        yield "test-a-code-good", visitor
        visitor.open("/security/test")
        visitor.send(code=ada.wrong_code())
        yield "test-a-code-bad", visitor
        visitor.open("/security/recovery-codes")
        yield "recovery-codes", visitor
        visitor.send(code=ada.fresh_code())
        yield "recovery-codes-new", visitor

    def another_authenticator(self) -> Iterator[Stop]:
        self.clock.advance(15 * 60)
        ada, visitor = self.ada, self.ada.visitor
        visitor.open("/enroll")
        yield "enroll-who-are-you", visitor
        visitor.send(code=ada.wrong_code())
        yield "enroll-who-are-you-wrong-code", visitor
        visitor.send(code=ada.fresh_code())
        yield "enroll-another", visitor
        first = ada.phone
        ada.begin_app()
        yield "enroll-another-app", visitor
        self.clock.advance()
        ada.prove_app(label=LONG_LABEL)
        yield "enroll-another-done", visitor
        visitor.open("/security")
        yield "security-two-apps", visitor
        visitor.open(f"{ada.authenticator_paths()[1]}/remove")
        yield "authenticator-remove", visitor
        visitor.send(code=ada.wrong_code())
        yield "authenticator-remove-wrong-code", visitor
        ada.phone = first

    def passkeys(self) -> Iterator[Stop]:
        self.clock.advance(15 * 60)
        visitor = self.new_visitor()
        dan = self.people["dan"] = self.invited("dan").at(visitor)
        dan.sign_in()
        dan.sign_out()
        laptop = Authenticator(visitor)
        dan.give_password()
        dan.give_code()
        yield "enroll-offer", visitor
        # A key is used by pressing the button alone: no name box offers it.
        laptop.take_away()
        authenticator = Authenticator(visitor, transport="usb")
        visitor.send(press="factor=webauthn")
        yield "enroll-passkey", visitor
        authenticator.know_user(False)
        visitor.show_passkey_in_vain()
        yield "enroll-passkey-canceled", visitor
        authenticator.know_user()
        # The page is old by now: the script asks for a fresh question before it asks the key.
        self.clock.advance(6 * 60)
        visitor.show_passkey(label=LONG_LABEL)
        yield "enroll-passkey-done", visitor
        visitor.open("/enroll")
        yield "enroll-who-are-you-passkey", visitor
        dan.sign_out()
        dan.give_password()
        yield "code-passkey-or-app", visitor
        visitor.open("/sign-in/code?way=webauthn")
        yield "code-passkey", visitor
        self.clock.advance(6 * 60)
        visitor.show_passkey()
        yield "code-passkey-late", visitor
        dan.give_code(dan.wrong_code())
        yield "code-passkey-or-app-wrong-code", visitor
        visitor.show_passkey()
        dan.sign_out()
        self.clock.advance(6 * 60)
        visitor.show_passkey()
        yield "sign-in-passkey-late", visitor

    def administration(self) -> Iterator[Stop]:
        self.clock.advance(15 * 60)
        ada, visitor = self.ada, self.ada.visitor
        visitor.open("/admin")
        yield "admin", visitor
        visitor.open("/admin/people")
        yield "people", visitor
        visitor.open("/admin/people?q=nobody")
        yield "people-none", visitor
        visitor.open("/admin/invite")
        yield "invite", visitor
        visitor.send(name=LONG_NAME, code=ada.wrong_code())
        yield "invite-wrong-code", visitor
        visitor.open("/admin/invite")
        visitor.send(name=LONG_NAME, code=ada.fresh_code())
        yield "invited", visitor
        visitor.open("/admin/people/cy")
        yield "person", visitor
        for act in ("unlock", "reset", "disable"):
            visitor.open(f"/admin/people/cy/{act}")
            yield f"person-{act}", visitor
        ada.act_on("cy", "unlock")
        yield "person-unlocked", visitor
        ada.act_on("bo", "disable")
        visitor.open("/admin/people/bo")
        yield "person-disabled", visitor
        visitor.open("/admin/people/bo/enable")
        yield "person-enable", visitor
        visitor.open(f"/admin/people/{LONG_NAME}")
        yield "person-invited", visitor
        visitor.open("/admin/networks")
        yield "networks-none", visitor
        visitor.send(to="/admin/networks", network="203.0.113.0/24", code=ada.fresh_code())
        visitor.open("/admin/networks")
        yield "networks", visitor

    def acting_with_a_passkey(self) -> Iterator[Stop]:
        self.clock.advance(15 * 60)
        visitor = self.new_visitor()
        hal = self.people["hal"] = self.invited("hal").at(visitor)
        hal.sign_in()
        authenticator = Authenticator(visitor)
        visitor.open("/enroll")
        visitor.send(code=hal.fresh_code())
        visitor.send(press="factor=webauthn")
        visitor.show_passkey(label="Laptop")
        # From now on it waits to be touched, or it would sign in by itself where that is offered.
        authenticator.be_touched(False)
        app, passkey = hal.authenticator_paths()
        yield "security-passkey", visitor
        visitor.open(passkey)
        yield "authenticator-passkey", visitor
        visitor.open(f"{app}/remove")
        yield "authenticator-remove-by-passkey-or-code", visitor
        self.ada.act_on("hal", "make-administrator")
        hal.give_password()
        hal.give_code()
        visitor.open(f"{app}/remove")
        yield "authenticator-remove-by-passkey", visitor
        visitor.open(f"{app}/remove?letters=1")
        yield "authenticator-remove-by-recovery-code", visitor
        visitor.open("/admin")
        yield "admin-passkey", visitor
        authenticator.be_touched()
        visitor.show_passkey()
        visitor.open("/admin/people/cy/disable")
        yield "person-disable-by-passkey", visitor
        visitor.open("/admin/networks")
        yield "networks-by-passkey", visitor

    def links(self) -> Iterator[Stop]:
        self.clock.advance(15 * 60)
        visitor = self.new_visitor()
        visitor.open(self.ada.invite("eve"))
        yield "link-invitation", visitor
        visitor.send(new_password="short")
        yield "link-invitation-error", visitor
        visitor.open(reset_link(self.server, "cy"))
        yield "link-reset", visitor
        visitor.open("/link?token=wrong", expect={403, 404, 410})
        yield "link-bad", visitor

    def refusals(self) -> Iterator[Stop]:
        self.clock.advance(15 * 60)
        visitor = self.new_visitor()
        visitor.open("/nowhere", expect={404})
        yield "not-found", visitor
        fay = self.invited("fay").at(visitor)
        fay.sign_in()
        visitor.open("/admin", expect={403})
        yield "not-an-administrator", visitor
        self.clock.advance(61 * 60)
        visitor.open("/security")
        yield "session-over", visitor
        visitor.open("/sign-in")
        visitor.window.context.clear_cookies()
        visitor.send(name="fay", password=fay.password, expect={403})
        yield "form-without-cookies", visitor
        gus = Person("gus", visitor, self.clock)
        for _ in range(11):
            gus.give_password("wrong password 1")
        yield "sign-in-too-often", visitor

    def reset_of_many(self) -> Iterator[Stop]:
        self.clock.advance(15 * 60)
        done = self.server.command("account", "reset", "--all", "--grace", "14")
        assert done.returncode == 0, done.stderr
        ada, visitor = self.ada, self.ada.visitor
        visitor.open("/sign-in")
        ada.give_password()
        ada.give_code()
        yield "reset-who-it-is", visitor
        visitor.send(code=ada.fresh_code())
        yield "reset-choice", visitor
        visitor.open("/security")
        yield "reset-security", visitor
        visitor.open("/admin")
        yield "reset-admin", visitor
        visitor.open("/admin/people?show=stopping")
        yield "reset-people", visitor
        visitor.open("/admin/people/cy")
        yield "reset-person", visitor
        self.clock.advance(14 * 86_400)
        visitor.open("/sign-in")
        ada.give_password()
        yield "reset-over", visitor

    def invited(self, name: str) -> Person:
        """Somebody who enrolled elsewhere."""
        link = self.ada.invite(name)
        person = Person(name, self.form_visitor(), self.clock)
        person.accept(link)
        person.enroll()
        return person

    def form_visitor(self) -> FormVisitor:
        """A browser that nobody takes pictures of."""
        self.elsewhere.append(FormVisitor(self.ada.visitor.url))
        return self.elsewhere[-1]
