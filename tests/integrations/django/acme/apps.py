"""The project's own application."""

from django.apps import AppConfig


class AcmeConfig(AppConfig):
    name = "tests.integrations.django.acme"
    label = "acme"
