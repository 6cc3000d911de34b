"""From which country a visitor comes, as the proxy says."""

from django.conf import settings
from django.http import HttpRequest

from moderation.states import UNKNOWN_COUNTRY


def country_of(request: HttpRequest) -> str:
    """Return from which country the proxy says this request comes; XX where it does not know.

    Empty where no header is set, and then nothing can be restricted by country.
    """
    if not settings.COUNTRY_HEADER:
        return ""
    country = request.headers.get(settings.COUNTRY_HEADER, "").strip().upper()
    return country if len(country) == 2 and country.isalpha() else UNKNOWN_COUNTRY
