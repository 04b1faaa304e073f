"""Says which headers of a request claim to be from Guestpass."""

import os
from wsgiref.simple_server import make_server

from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    MIDDLEWARE=[f"{__name__}.reads_a_header", "guestpass.soft", "django.middleware.common.CommonMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of a test",
)

from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path
from django.views.decorators.cache import cache_control

import guestpass


def reads_a_header(get_response):
    """A middleware before the recipe's makes Django keep the headers as they came."""

    def answer(request):
        request.headers.get("x-guestpass-sub")
        return get_response(request)

    return answer


def claims(request):
    return JsonResponse({name.lower(): value for name, value in request.headers.items() if "guestpass" in name.lower()})


urlpatterns = [
    path("", claims),
    path("account", guestpass.strict(claims)),
    path("public", cache_control(public=True, max_age=60)(claims)),
]

if __name__ == "__main__":
    make_server("127.0.0.1", int(os.environ["PORT"]), get_wsgi_application()).serve_forever()
