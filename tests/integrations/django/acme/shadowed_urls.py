"""As `urls`, with a view before Twofold's pages that takes every address."""

from django.urls import re_path
from tests.integrations.django.acme import urls, views

urlpatterns = [re_path("^second/.*$", views.home), *urls.urlpatterns]
