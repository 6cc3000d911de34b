"""Stored files, whether they lie in a folder of this machine or in a bucket.

Probes and the door read files by path. From a bucket a file is fetched once into a folder beside
the data and read from there; every worker and every web process tidies that folder of its machine
up (``copies_forget``). What was uploaded lies under
``quarantine/`` until the version is published, so that a bucket's own rules can keep it shut.
"""

import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import default_storage, storages

try:
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    BUCKET_ERRORS: tuple[type[Exception], ...] = (Boto3Error, BotoCoreError, ClientError)
except ImportError:  # without the s3 extra, files lie in a folder
    BUCKET_ERRORS = ()
STORAGE_ERRORS: tuple[type[Exception], ...] = (OSError, *BUCKET_ERRORS)

QUARANTINE, PUBLISHED = "quarantine/", "published/"
CHUNK = 1024 * 1024
# No header of a safetensors file that is longer is read (triage/containers/safetensors_header.py).
HEAD_BYTES = 8 + 16_000_000
# How long a copy of a bucket's file is kept after it was last used; and where the disk is as full
# as this.
COPY_SECONDS = 60 * 60
COPY_SECONDS_WHEN_FULL = 10 * 60
FULL_SHARE = 0.8
# No request and no fetch takes as long as this.
ARRIVING_SECONDS = 24 * 60 * 60


# What would hide a part of a name or turn it around on a page or in a terminal: control characters,
# marks of direction, and halves of surrogates, which no database stores.
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def name_shown(given: str | None) -> str:
    """Return what a stranger calls a file, as words for a page: at most 255 characters.

    No file is ever stored under it.
    """
    name = _UNSEEN.sub("", given or "").replace("\\", "/").strip("/").rpartition("/")[2].strip()
    return name[:255] if name.strip(".") else "unnamed"


def is_on_this_machine() -> bool:
    """Return whether files lie in a folder here, and not in a bucket."""
    return str(settings.STORAGES["default"]["BACKEND"]).endswith(".FileSystemStorage")


def links_storage() -> Any:
    """Return the storage that signs links to the bucket which browsers are given."""
    return storages["links" if "links" in settings.STORAGES else "default"]


def local_path(name: str | None) -> Path:
    """Return where a stored file can be read on this machine, fetched if need be.

    Raises FileNotFoundError if it is gone.
    """
    if not name:
        raise FileNotFoundError("a file without a name")
    if is_on_this_machine():
        path = Path(default_storage.path(name))
        if not path.exists():
            raise FileNotFoundError(name)
        return path
    copy = _copy_of(name)
    if copy.exists():
        os.utime(copy)
        return copy
    # Whole or not at all: another thread may ask for the same file now.
    part = copy.with_name(f"{copy.name}.{uuid.uuid4().hex}")
    try:
        _fetch(name, part)
        part.replace(copy)
    finally:
        part.unlink(missing_ok=True)
    return copy


def local_head(name: str | None, *, size: int) -> Path:
    """Return where the first ``HEAD_BYTES`` of a stored file of ``size`` bytes can be read.

    The path has the length of the file, and nothing but zeros after its head where the file lies in
    a bucket and nobody on this machine has needed all of it. Raises FileNotFoundError if it is
    gone.
    """
    if not name or is_on_this_machine() or size <= HEAD_BYTES or _copy_of(name).exists():
        return local_path(name)
    copy = _copy_of(f"head/{name}")
    if copy.exists():
        os.utime(copy)
        return copy
    part = copy.with_name(f"{copy.name}.{uuid.uuid4().hex}")
    try:
        with _found(name), part.open("wb") as target:
            key = default_storage._normalize_name(name)  # type: ignore[attr-defined]
            stored = default_storage.bucket.Object(key)  # type: ignore[attr-defined]
            answer = stored.get(Range=f"bytes=0-{HEAD_BYTES - 1}")
            for chunk in answer["Body"].iter_chunks(CHUNK):
                target.write(chunk)
            target.truncate(size)
        part.replace(copy)
    finally:
        part.unlink(missing_ok=True)
    return copy


def _fetch(name: str, target: Path) -> None:
    """Fetch a file from the bucket straight to a path, in pieces."""
    key = default_storage._normalize_name(name)  # type: ignore[attr-defined]
    with _found(name):
        default_storage.bucket.download_file(key, str(target))  # type: ignore[attr-defined]


@contextmanager
def _found(name: str) -> Iterator[None]:
    """Turn the bucket's word that a file is gone into FileNotFoundError."""
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            raise FileNotFoundError(name) from error
        raise


def file_keep(upload: "File[Any]") -> tuple[str, str]:
    """Store an upload in quarantine under a random name; return the name and its SHA-256."""
    name = f"{QUARANTINE}{uuid.uuid4().hex}"
    digest = hashlib.sha256()
    if is_on_this_machine():
        name = default_storage.save(name, upload)
        with default_storage.open(name, "rb") as stored:
            while chunk := stored.read(CHUNK):
                digest.update(chunk)
        return name, digest.hexdigest()
    copy = _copy_of(name)
    with copy.open("wb") as target:
        for chunk in upload.chunks(CHUNK):
            digest.update(chunk)
            target.write(chunk)
    with copy.open("rb") as source:
        default_storage.save(name, File(source))
    return name, digest.hexdigest()


@contextmanager
def file_written(name: str) -> Iterator[Path]:
    """Yield a path to write a new stored file to; it is stored when the block ends well."""
    if is_on_this_machine():
        yield Path(default_storage.path(name))
        return
    copy = _copy_of(name)
    yield copy
    if copy.exists():
        with copy.open("rb") as source:
            default_storage.save(name, File(source))


def file_delete(name: str | None) -> None:
    """Delete a stored file and the copy of it; one that is gone already is no fault."""
    if not name:
        return
    with suppress(FileNotFoundError):
        default_storage.delete(name)
    if not is_on_this_machine():
        for copied in (name, f"head/{name}"):
            _copy_of(copied).unlink(missing_ok=True)


def file_publish(name: str) -> str:
    """Copy a file out of quarantine; return its new name. The old one is deleted by the caller."""
    new = PUBLISHED + name.removeprefix(QUARANTINE)
    if default_storage.exists(new):
        return new
    if is_on_this_machine():
        target = Path(default_storage.path(new))
        target.parent.mkdir(parents=True, exist_ok=True)
        # A second name for the same bytes: nothing is copied, and nobody sees half a file.
        with suppress(FileExistsError):
            target.hardlink_to(default_storage.path(name))
        return new
    bucket = default_storage.bucket  # type: ignore[attr-defined]
    old_key = default_storage._normalize_name(name)  # type: ignore[attr-defined]
    new_key = default_storage._normalize_name(new)  # type: ignore[attr-defined]
    # Within the bucket, by the server itself; in parts where the file is large.
    bucket.copy({"Bucket": bucket.name, "Key": old_key}, new_key)
    return new


def copies_forget() -> int:
    """Delete copies of a bucket's files that were not used for an hour; return how many.

    For ten minutes where the disk is nearly full. And what was left of uploads a day ago. Only of
    this machine: each tidies up its own.
    """
    # What was arriving when a process was killed.
    forgotten = _forget(Path(settings.FILE_UPLOAD_TEMP_DIR), older_than=ARRIVING_SECONDS)
    folder = Path(settings.DATA_DIR) / "fetched"
    if is_on_this_machine() or not folder.exists():
        return forgotten
    disk = shutil.disk_usage(folder)
    is_full = disk.used > FULL_SHARE * disk.total
    kept_for = COPY_SECONDS_WHEN_FULL if is_full else COPY_SECONDS
    return forgotten + _forget(folder, older_than=kept_for)


def _forget(folder: Path, *, older_than: float) -> int:
    forgotten = 0
    for file in folder.iterdir():
        with suppress(FileNotFoundError):
            if time.time() - file.stat().st_mtime > older_than:
                file.unlink()
                forgotten += 1
    return forgotten


def _copy_of(name: str) -> Path:
    folder = Path(settings.DATA_DIR) / "fetched"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name.replace("/", "_")
