"""The language of a creator's pages: that in which the account is told things."""

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from moderation.errors import Refusal
from moderation.models import Account
from moderation.states import Language
from moderation.translations import known_language, refusal_in, templates_in

# What a page says once after something was done.
_SAID: Mapping[str, Mapping[str, str]] = {
    "appeal_filed": {
        Language.ENGLISH: "Your appeal is with us. Another person looks at it.",
        Language.GERMAN: "Ihr Widerspruch liegt uns vor. Ein anderer Mensch sieht ihn sich an.",
    },
    "answered": {
        Language.ENGLISH: "Thank you. A moderator reads your answer.",
        Language.GERMAN: "Danke. Die Moderation liest Ihre Antwort.",
    },
    "language_chosen": {
        Language.ENGLISH: "From now on you are told things in this language.",
        Language.GERMAN: "Von jetzt an wird Ihnen in dieser Sprache geschrieben.",
    },
    "objected": {
        Language.ENGLISH: "It is with us. Whoever decides reads it.",
        Language.GERMAN: "Es liegt uns vor. Wer entscheidet, liest es.",
    },
    "taken_down": {
        Language.ENGLISH: "Taken down. Nobody but you and the moderation team can see it.",
        Language.GERMAN: "Zurückgezogen. Nur Sie und die Moderation können es noch sehen.",
    },
    "message_sent": {Language.ENGLISH: "Sent.", Language.GERMAN: "Gesendet."},
}


def _language(request: HttpRequest) -> Language:
    return known_language(request.user.language if isinstance(request.user, Account) else "")


def said_in(request: HttpRequest, key: str) -> str:
    """Return what a page says after something was done, in the language of the account."""
    return _SAID[key][_language(request)]


def in_own_language(
    request: HttpRequest, template: str, context: dict[str, Any], refusal: Refusal | None = None
) -> HttpResponse:
    """Show a page in the language of the account, with what was refused, if anything was."""
    language = _language(request)
    if refusal is not None:
        refusal.sentence = refusal_in(language, refusal.code, refusal.sentence)
    response = render(
        request,
        templates_in(language, template),
        {**context, "refusal": refusal},
        status=refusal.status if refusal else 200,
    )
    response["Content-Language"] = language.value
    return response
