"""Where everything is."""

from django.contrib import admin
from django.contrib.auth import views as auth
from django.urls import include, path
from tests.integrations.django.acme import views

reset = auth.PasswordResetConfirmView.as_view(post_reset_login=True, success_url="/account")
urlpatterns = [
    path("", views.home),
    path("state", views.show_state),
    path("account", views.account),
    path("remember", views.remember),
    path("magic/<name>", views.magic_link),
    path("login-as/<name>", views.login_as),
    path("transfer", views.transfer),
    path("close", views.close),
    path("payroll", views.payroll),
    path("api/transfer", views.api),
    path("api/account", views.tell),
    path("health", views.health),
    path("health/class", views.Health.as_view()),
    path("whole", views.Whole.as_view()),
    path("part", views.Part.as_view()),
    path("async", views.async_home),
    path("async/act", views.async_act),
    path("async/whole", views.AsyncWhole.as_view()),
    path("accounts/login/", auth.LoginView.as_view(template_name="admin/login.html")),
    path("accounts/logout/", auth.LogoutView.as_view()),
    path("accounts/password/", auth.PasswordChangeView.as_view(success_url="/account")),
    path("reset/<uidb64>/<token>/", reset, name="password_reset_confirm"),
    path("admin/", admin.site.urls),
    path("second/factor/", include("twofold.integrations.django.urls")),
]
