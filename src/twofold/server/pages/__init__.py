"""Twofold's own pages: one table of all addresses, what they show and do, and which sessions reach them.

What is not in the table does not exist; whoever does not have one of the levels of a row is led to the step that is
missing. `visit.py` is what a handler gets, `gate.py` what stands before it.
"""

from __future__ import annotations

from starlette.routing import Route

from twofold.server.pages import (
    admin,
    enroll,
    enroll_passkey,
    enroll_totp,
    home,
    links,
    networks,
    people,
    second_step,
    security,
    sessions,
    setup,
    sign_in,
)
from twofold.server.pages.gate import Page, Reach, page_route
from twofold.server.pages.house import House

ANYBODY: frozenset[Reach] = frozenset({"anybody"})
PENDING: frozenset[Reach] = frozenset({"pending"})
ENROLLING: frozenset[Reach] = frozenset({"enrolling", "full"})
FULL: frozenset[Reach] = frozenset({"full"})
ADMINISTRATOR: frozenset[Reach] = frozenset({"administrator"})

PAGES = (
    Page("/", home.show_home, None, ANYBODY),
    # by the links that are shown once
    Page("/setup", setup.show_setup, setup.take_setup, ANYBODY),
    Page("/link", links.show_link, links.take_link, ANYBODY),
    # signing in and out
    Page("/sign-in", sign_in.show_sign_in, sign_in.take_password, ANYBODY),
    Page("/sign-in/help", sign_in.show_help, None, ANYBODY),
    Page("/sign-in/passkey", "/sign-in", sign_in.take_passkey, ANYBODY),
    Page("/sign-in/code", second_step.show_code, second_step.take_code, PENDING),
    Page("/sign-in/code/passkey", "/sign-in/code", second_step.take_passkey, PENDING),
    Page("/sign-out", sign_in.show_sign_out, sign_in.take_sign_out, ANYBODY),
    # adding an authenticator
    Page("/enroll", enroll.show_start, enroll.take_start, ENROLLING),
    Page("/enroll/totp", enroll_totp.show_totp, enroll_totp.take_totp, ENROLLING),
    Page("/enroll/webauthn", enroll_passkey.show_passkey, enroll_passkey.take_passkey, ENROLLING),
    Page("/enroll/offer", enroll_passkey.show_offer, None, FULL),
    Page("/enroll/cancel", "/enroll", enroll.take_cancel, ENROLLING),
    Page("/enroll/saved", "/enroll/done", enroll.take_saved, FULL),
    Page("/enroll/done", enroll.show_done, None, FULL),
    # one's own security
    Page("/security", security.show_security, None, FULL),
    Page("/security/authenticators/{id}", security.show_authenticator, security.take_label, FULL),
    Page("/security/authenticators/{id}/remove", security.show_removal, security.take_removal, FULL),
    Page("/security/recovery-codes", security.show_recovery_codes, security.take_recovery_codes, FULL),
    Page("/security/password", security.show_password, security.take_password, FULL),
    Page("/security/test", security.show_test, security.take_test, FULL),
    Page("/security/browsers/{id}", "/security", sessions.take_browser, FULL),
    Page("/security/sessions", "/security", sessions.take_others, FULL),
    Page("/security/sessions/{id}", "/security", sessions.take_session, FULL),
    Page("/security/activity", sessions.show_activity, None, FULL),
    # other people's
    Page("/admin", admin.show_admin, None, ADMINISTRATOR),
    Page("/admin/passkey", admin.show_passkey, admin.take_passkey, ADMINISTRATOR),
    Page("/admin/people", people.show_people, None, ADMINISTRATOR),
    Page("/admin/invite", people.show_invite, people.take_invite, ADMINISTRATOR),
    Page("/admin/people/{id}", people.show_person, None, ADMINISTRATOR),
    Page("/admin/people/{id}/{act}", people.show_act, people.take_act, ADMINISTRATOR),
    Page("/admin/networks", networks.show_networks, networks.take_network, ADMINISTRATOR),
    Page("/admin/networks/lift", "/admin/networks", networks.take_lift, ADMINISTRATOR),
)


def page_routes(house: House) -> list[Route]:
    """All pages of a deployment as routes."""
    return [page_route(house, page) for page in PAGES]
