"""Refusals: a sentence for people, a code for machines, a status for HTTP."""

from django.http import HttpRequest, HttpResponse, JsonResponse


class Refusal(Exception):  # noqa: N818 - it is no fault of the program
    """Something asked for cannot be done; nothing was written.

    ``sentence`` says what is wrong, where, and what to do. ``code`` is stable. ``field`` names
    the form field concerned, if any.
    """

    status = 422
    code = "refused"

    def __init__(self, sentence: str, *, code: str | None = None, field: str | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.code = code or type(self).code
        self.field = field


class Invalid(Refusal):
    """The input breaks a rule that the person can mend."""

    code = "invalid"


class NotAllowed(Refusal):
    """This person may not do this to this thing."""

    status = 403
    code = "not_allowed"


class Conflict(Refusal):
    """Somebody or something else got there first."""

    status = 409
    code = "conflict"


class IllegalTransition(Conflict):
    """The state does not lead where it was asked to go."""

    code = "illegal_transition"


class Unavailable(Refusal):
    """A decision keeps it from where this person is (RFC 7725)."""

    status = 451
    code = "unavailable_here"


class TooLate(Refusal):
    """A deadline has passed."""

    status = 410
    code = "too_late"


def problem_said(*, status: int, title: str, detail: str, code: str) -> HttpResponse:
    """Return a refusal to a program, as problem+json (RFC 9457)."""
    said = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code}
    return JsonResponse(said, status=status, content_type="application/problem+json")


def is_of_api(request: HttpRequest) -> bool:
    """Return whether a program asks, to whom a page says nothing."""
    return request.path.startswith("/api/v1/") and request.path != "/api/v1/docs/"
