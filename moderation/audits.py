"""The blind audit: a share of the previews that pass is shown to people. Writes ``AuditItem``.

It comes to them as a question like any other: neither they nor the page know that it passed.
"""

import hashlib
import hmac

from django.conf import settings
from django.utils import timezone

from moderation.models import AuditItem, ModelVersion


def audit_draw(*, version: ModelVersion) -> int:
    """Draw from the previews of a version that was published as clean; return how many."""
    drawn = [row for row in version.previews.all() if _is_drawn(row.sha256)]
    for preview in drawn:
        AuditItem.objects.get_or_create(preview=preview, defaults={"drawn_at": timezone.now()})
    return len(drawn)


def _is_drawn(sha256: str) -> bool:
    """Return whether content is drawn: always or never the same, and nobody can work it out.

    Keyed, or an uploader could change a pixel until the picture is not looked at.
    """
    keyed = hmac.digest(settings.SECRET_KEY.encode(), b"audit " + sha256.encode(), hashlib.sha256)
    return bool(int.from_bytes(keyed[:8]) < settings.AUDIT_SHARE * 2**64)
