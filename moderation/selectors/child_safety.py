"""What child-safety specialists read; to everybody else it does not exist."""

from django.db.models import QuerySet

from moderation.authz import Hidden
from moderation.child_safety import require_child_safety
from moderation.models import Account, ChildSafetyRecord, PreviewImage


def records(account: Account) -> QuerySet[ChildSafetyRecord]:
    """Return all records, those that were not reported yet first."""
    require_child_safety(account)
    return ChildSafetyRecord.objects.select_related("version", "sent_by").order_by(
        "-sent_at", "opened_at"
    )


def record_for(account: Account, code: str) -> ChildSafetyRecord:
    """Return one record with what it is about. Raises Hidden."""
    require_child_safety(account)
    record = (
        ChildSafetyRecord.objects.filter(code=code)
        .select_related("version__uploaded_model__creator", "decision__decided_by", "sent_by")
        .prefetch_related("version__files", "version__previews")
        .first()
    )
    if record is None or record.version.uploaded_model.creator_id == account.pk:
        raise Hidden
    return record


def preview_of(account: Account, code: str, preview: str) -> PreviewImage:
    """Return one preview of a record. Raises Hidden."""
    found = record_for(account, code).version.previews.filter(code=preview).first()
    if found is None:
        raise Hidden
    return found
