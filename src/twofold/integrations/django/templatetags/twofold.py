"""`{% load twofold %}`: a way for the application's templates to Twofold's pages, and whether somebody needs it."""

from __future__ import annotations

from typing import Any

from django import template
from django.urls import reverse

from twofold.errors import Refused
from twofold.integrations.django.opening import open_guard

register: template.Library = template.Library()


@register.simple_tag
def twofold_url(page: str = "security") -> str:
    """The address of a page of Twofold's."""
    return str(reverse("twofold:page", args=[page]))


@register.simple_tag(takes_context=True)
def second_factor_state(context: Any) -> str:
    """The state of the second factor of whoever is signed in; "" for nobody, "empty" for who has none."""
    person = context.request.twofold.person
    try:
        return open_guard().verifier.account(person.id).state if person else ""
    except Refused:
        return "empty"
