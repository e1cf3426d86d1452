"""The second factor in a Flask application: a gate before all its routes, and Twofold's pages below it.

What is decided is decided in `guard.py`; here a request is put into its words, and its answer into Flask's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, Literal, ParamSpec

import msgspec
from flask import Flask, Response, current_app, g, render_template, request, session

from twofold.errors import ConfigurationError
from twofold.integrations.arrival import Answer, Arrival, Demand, Login, Options, Person, check_person, find_login
from twofold.integrations.blocking_guard import BlockingGuard
from twofold.integrations.flask_request import describe, is_open, read_body, read_form_body

__all__ = ["Person", "SecondFactor", "fresh", "second_factor_exempt", "second_factor_required"]

P = ParamSpec("P")
Who = Person | str | int | None
LAYOUT = "twofold/base.html"
ENDPOINT = "twofold"


class SecondFactor(BlockingGuard):
    """Stands before a Flask application.

    `person` says who is signed in, by whatever door: None, an id, or a `Person`. `login` names one login where neither
    Flask's session nor a bearer token does. What else there is to choose is in `Options`. The name in people's apps is
    the application's, unless `issuer` says otherwise.
    """

    def __init__(
        self, app: Flask, person: Callable[[], Who], *, login: Callable[[], str] | None = None, **options: Any
    ) -> None:
        if ENDPOINT in app.extensions:
            raise ConfigurationError("there is a gate before this application already: one SecondFactor is enough")
        self._find_person, self._name_login = person, login
        has_layout = app.jinja_loader is not None and LAYOUT in app.jinja_loader.list_templates()
        given: dict[str, Any] = {"issuer": app.name, "has_layout": has_layout}
        super().__init__(Options(**given | options))
        app.extensions[ENDPOINT] = self
        # First of all: what another extension answers before a request is answered behind the gate.
        app.before_request_funcs.setdefault(None, []).insert(0, self._stand_before)
        app.dispatch_request = partial(self._look_again, app.dispatch_request)  # type: ignore[method-assign]
        app.after_request(self._look_back)
        # Answered by the gate itself, before anything else: the pages guard their own forms.
        for rule in (f"{self.options.prefix}/", f"{self.options.prefix}/<path:path>"):
            app.add_url_rule(rule, ENDPOINT, methods=["GET", "POST"])

    def ask_before(self, demand: Demand) -> Response | None:
        """What is answered instead of a view that asks for more than it gets; None if it gets it."""
        arrival, person, login = g.twofold
        answer = self.check(arrival, person, login, demand, read_form_body())
        return None if answer is None else self._respond(answer)

    def _stand_before(self) -> Response | None:
        """The first of all functions before a request, so nobody else answers one that the gate refuses."""
        arrival, person, login = g.twofold = self._meet()
        if request.endpoint == ENDPOINT:
            inside = msgspec.structs.replace(arrival, path=arrival.path.removeprefix(self.options.prefix))
            return self._respond(self.serve(inside, person, login, read_body()))
        if is_open():
            return None
        answer = self.admit(arrival, person, login)
        return None if answer is None else self._respond(answer)

    def _look_again(self, dispatch: Callable[..., Any], *context: Any) -> Any:
        """One of those functions may have signed somebody in, such as by a cookie that remembers her."""
        met = g.get("twofold")
        is_same = met is not None and _id(met[1]) == _id(check_person(self._find_person()))
        answer = None if is_same else self._stand_before()
        return dispatch(*context) if answer is None else answer

    def _look_back(self, response: Response) -> Response:
        """Whoever signed out with this request, or became somebody else, takes along what was tied to that login."""
        arrival, met, login = g.get("twofold") or (describe(), None, Login())
        person = check_person(self._find_person())
        if met is not None and _id(person) != met.id:
            self.admit(arrival, None, Login(login.name, has_ended=True))
        if self._name_login is None:
            # A new login is named in the answer that begins it: the first requests after it may come all at once.
            find_login(session, person, arrival.headers)
        return response

    def _meet(self) -> tuple[Arrival, Person | None, Login]:
        """The request as the guard sees it."""
        arrival, person = describe(), check_person(self._find_person())
        if self._name_login is not None:
            return arrival, person, Login(self._name_login() if person is not None else "")
        return arrival, person, find_login(session, person, arrival.headers)

    def _respond(self, answer: Answer) -> Response:
        body: str | bytes = answer.body
        if answer.page is not None:
            body = render_template(LAYOUT, twofold=answer.page)
        response = Response(body, answer.status)
        for name in {name for name, _ in answer.headers}:
            response.headers.setlist(name, [value for key, value in answer.headers if key == name])
        return response


def second_factor_required(view: Callable[P, Any]) -> Callable[P, Any]:
    """Nobody reaches this view without a second factor; whoever has none is led to enroll one."""
    return _ask_before(Demand(), view)


def fresh(
    minutes: int = 5, at_least: Literal["code", "passkey"] = "code"
) -> Callable[[Callable[P, Any]], Callable[P, Any]]:
    """Each act of this view takes a second factor that was shown for it within `minutes`, and uses it up."""
    return partial(_ask_before, Demand(minutes, at_least))


def second_factor_exempt(view: Callable[P, Any]) -> Callable[P, Any]:
    """The gate does not stand before this view."""
    view.is_second_factor_exempt = True  # type: ignore[attr-defined]
    return view


def _ask_before(demand: Demand, view: Callable[P, Any]) -> Callable[P, Any]:
    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> Any:
        answer = _find().ask_before(demand)
        return current_app.ensure_sync(view)(*args, **kwargs) if answer is None else answer

    return guarded


def _find() -> SecondFactor:
    found = current_app.extensions.get(ENDPOINT)
    if not isinstance(found, SecondFactor):
        raise ConfigurationError("there is no gate before this application: SecondFactor(app, person=…) is missing")
    return found


def _id(person: Person | None) -> str | None:
    return None if person is None else person.id
