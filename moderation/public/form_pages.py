"""Addresses that only take a form: whoever opens one is led to the page that the form stands on."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods

View = Callable[..., HttpResponse]


def form_of(page: str, *names: str) -> Callable[[View], View]:
    """Let a view take POST alone; lead GET to ``page``, whose address needs the parts ``names``.

    After a refusal the browser stands at the form's address, and a link to another language, or
    Enter in the line of the address, opens it by GET.
    """

    def decorate(view: View) -> View:
        @require_http_methods(["GET", "POST"])
        @wraps(view)
        def taken(request: HttpRequest, *args: Any, **parts: Any) -> HttpResponse:
            if request.method == "POST":
                return view(request, *args, **parts)
            chosen = request.GET.urlencode()
            address = reverse(page, kwargs={name: parts[name] for name in names})
            return redirect(f"{address}?{chosen}" if chosen else address)

        return taken

    return decorate
