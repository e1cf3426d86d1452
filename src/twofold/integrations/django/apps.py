"""Twofold as one of `INSTALLED_APPS`: system checks, template tags, and what Twofold must hear about people."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.apps import AppConfig
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_out
from django.core.checks import register
from django.db import transaction
from django.db.models.signals import post_delete, post_save

from twofold.errors import Refused
from twofold.integrations.arrival import Login
from twofold.integrations.django.opening import open_guard


class TwofoldConfig(AppConfig):
    """The application's entry for `twofold.integrations.django`."""

    name = "twofold.integrations.django"
    label = "twofold"
    verbose_name: str = "Twofold"

    def ready(self) -> None:
        from twofold.integrations.django.checks import check_gate  # noqa: PLC0415 - needs the user model

        register(check_gate, "security")
        user_logged_out.connect(_hear_of_sign_out)
        post_save.connect(_hear_of_save)
        post_delete.connect(_hear_of_deletion)


def _hear_of_sign_out(request: Any, **_: object) -> None:
    """Whoever signs out takes along what was tied to that login."""
    if visit := getattr(request, "twofold", None):
        open_guard().admit(visit.arrival, None, Login(visit.login.name, has_ended=True))


def _hear_of_save(instance: Any, created: bool, using: str, **_: object) -> None:
    """A new password ends what the old one began. Django keeps it in `_password` until the person is saved, and never
    there when it only hashes the old one anew."""
    if isinstance(instance, get_user_model()) and not created and vars(instance).get("_password") is not None:
        transaction.on_commit(partial(_end_sessions, str(instance.pk)), using=using)


def _hear_of_deletion(instance: Any, using: str, **_: object) -> None:
    if isinstance(instance, get_user_model()):
        transaction.on_commit(partial(_delete, str(instance.pk)), using=using)


def _end_sessions(account_id: str) -> None:
    try:
        open_guard().verifier.record_event(account_id, "password_changed")
    except Refused:  # has never had a second factor
        return


def _delete(account_id: str) -> None:
    try:
        open_guard().verifier.delete_account(account_id)
    except Refused:
        return
