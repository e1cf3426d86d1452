"""Twofold in a Django application: `docs/howto/django.md` says where each of these goes.

Nothing is decided here: the rules and the pages are `twofold.integrations.guard`'s.
"""

from twofold.integrations.django.decorators import fresh, second_factor_exempt, second_factor_required
from twofold.integrations.django.gate import SecondFactorMiddleware
from twofold.integrations.django.opening import happened, open_guard

__all__ = [
    "SecondFactorMiddleware",
    "fresh",
    "happened",
    "open_guard",
    "second_factor_exempt",
    "second_factor_required",
]
