"""What the project shows, and the ways in."""

import json

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model, login
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.template import engines
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from twofold.integrations.django import fresh, second_factor_exempt, second_factor_required

#: Of the API: whose they are.
TOKENS: dict[str, str] = {}
#: What was really done.
DONE: list[str] = []
FORM = """<!doctype html><html lang="en"><head><title>Acme</title></head><body><main><h1>Acme</h1>
<form method="post" action="{{ action }}">{% csrf_token %}<input name="amount" value="10"><button>Do it</button></form>
</main></body></html>"""
#: Of a template; a test says which.
STATE = ""


def read_token(get_response):
    def middleware(request):
        owner = TOKENS.get(request.headers.get("Authorization", "").removeprefix("Bearer "))
        if owner is not None:
            request.user = get_user_model().objects.get(username=owner)
        return get_response(request)

    return middleware


def find_person(request):
    impersonator = request.session.get("impersonator")
    return get_user_model().objects.get(pk=impersonator) if impersonator else request.user


def home(request):
    return HttpResponse("home")


def show_state(request):
    return HttpResponse(engines["django"].from_string(STATE).render({}, request))


@login_required
def account(request):
    return HttpResponse(f"account of {request.user}")


def magic_link(request, name):
    login(request, get_user_model().objects.get(username=name))
    return redirect("/account")


@login_required
def login_as(request, name):
    administrator = str(request.user.pk)
    login(request, get_user_model().objects.get(username=name))
    request.session["impersonator"] = administrator
    return redirect("/account")


def remember(request):
    """Something of an anonymous visitor that survives the login, as baskets do."""
    request.session["basket"] = "1"
    return HttpResponse("kept")


def act(name):
    def view(request, **_):
        if request.method != "POST":
            return HttpResponse(engines["django"].from_string(FORM).render({"action": request.path}, request))
        DONE.append(f"{name} {request.POST.get('amount') or json.loads(request.body)['amount']}")
        return HttpResponse(f"done {request.path}")

    return view


transfer = login_required(fresh(minutes=5)(act("transfer")))
close = fresh(minutes=5, at_least="passkey")(act("close"))
payroll = second_factor_required(act("payroll"))
api = csrf_exempt(fresh()(act("api")))


@second_factor_exempt
def health(request):
    return HttpResponse("ok")


@method_decorator(second_factor_exempt, name="dispatch")
class Health(View):
    def get(self, request):
        return HttpResponse("ok")


@method_decorator(fresh(), name="dispatch")
class Whole(View):
    def get(self, request):
        return act("whole")(request)

    def post(self, request):
        return act("whole")(request)


class Part(View):
    def get(self, request):
        return act("part")(request)

    @method_decorator(fresh())
    def post(self, request):
        return act("part")(request)


async def async_home(request):
    return HttpResponse("async home")


@fresh()
async def async_act(request):
    return await sync_to_async(act("async"))(request)


@method_decorator(fresh(), name="dispatch")
class AsyncWhole(View):
    async def get(self, request):
        return await sync_to_async(act("async whole"))(request)

    async def post(self, request):
        return await sync_to_async(act("async whole"))(request)


def tell(request):
    return JsonResponse({"account": str(request.user)})
