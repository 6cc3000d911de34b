"""Links to files of weights: signed, for a minute, as attachments under a name of our own."""

from urllib.parse import quote

from django.core import signing
from django.db.models import F
from django.urls import reverse

from moderation.authz import Hidden, is_hidden_by_clock
from moderation.models import ModelFile, ModelVersion
from moderation.stored import is_on_this_machine, links_storage

# A link that was given out before a removal dies with it within this time.
LINK_SECONDS = 60
_SALT = "moderation.download"


def download_name(file: ModelFile) -> str:
    """Return the name under which a file is saved: never the uploader's own."""
    return f"{file.version.code}-{file.code}.{file.format}"


def download_link(file: ModelFile) -> str:
    """Return a link to a file that works for a minute, without a session.

    Access was checked by the caller. From a bucket it leads straight to the bucket. Counted, since
    the removal of what many have needs a second person.
    """
    ModelVersion.objects.filter(pk=file.version_id).update(downloads=F("downloads") + 1)
    if is_on_this_machine():
        signed = signing.dumps({"file": file.code, "seen": file.version.visibility}, salt=_SALT)
        return reverse("download-signed", args=[signed])
    disposition = f'attachment; filename="{quote(download_name(file))}"'
    parameters = {
        "ResponseContentDisposition": disposition,
        "ResponseContentType": "application/octet-stream",
    }
    storage = links_storage()
    return str(storage.url(file.content.name, parameters=parameters, expire=LINK_SECONDS))


def downloaded(signed: str) -> ModelFile:
    """Return the file of a link.

    Raises Hidden when the link is forged or older than a minute, and when what could be seen
    when it was made has changed since: a removal ends it at once.
    """
    try:
        given = signing.loads(signed, salt=_SALT, max_age=LINK_SECONDS)
    except signing.BadSignature as error:
        raise Hidden from error
    file = ModelFile.objects.filter(code=given["file"]).select_related("version").first()
    if file is None or file.version.visibility != given["seen"] or is_hidden_by_clock(file.version):
        raise Hidden
    if file.version.isolated_at is not None:
        raise Hidden
    return file
