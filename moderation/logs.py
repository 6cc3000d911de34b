"""What log lines may say: routes instead of addresses, because some addresses are secrets."""

import logging
import re

from django.http import HttpRequest
from django.urls import Resolver404, resolve
from django_structlog.middlewares import RequestMiddleware

# The private links of reporters, and those in letters about accounts: whoever reads one in a log
# could follow it. Django's signing puts colons into them, which some clients write as %3A.
_PRIVATE_PART = re.compile(r"(?<=/)[A-Za-z0-9_:%-]{24,}(?=/|\b)")


class RequestLogMiddleware(RequestMiddleware):
    """Gives every line the ids of the request and the account, and logs each request's end."""

    @staticmethod
    def format_request(request: HttpRequest) -> str:
        """Return the method and the route, such as ``GET reports/<str:token>/``."""
        try:
            # Known by the end; at the start of a request nobody has looked yet.
            route = (request.resolver_match or resolve(request.path_info)).route
        except Resolver404:
            route = "(no such page)"
        return f"{request.method} /{route}"


class PrivateLinksFilter(logging.Filter):
    """Takes the secret part of private links out of every line, whoever wrote it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the message where it holds one; keep every line."""
        if isinstance(record.msg, str):
            message = record.getMessage()
            hidden = _PRIVATE_PART.sub("…", message)
            if hidden != message:
                record.msg, record.args = hidden, None
        return True
