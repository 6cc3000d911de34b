"""The two digests by which marketplaces know a file of weights, in one pass over it."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from triage.containers.errors import ContainerError
from triage.containers.safetensors_header import header_length

# Large enough that the threads' hand-over costs nothing beside the hashing.
_CHUNK_BYTES = 4 << 20


def digests(path: Path) -> tuple[str, str | None]:
    """Return the SHA-256 of the file and of what follows its safetensors header, in hexadecimal.

    The second one is the same for all copies of the weights whatever their metadata says; it is
    ``None`` where the file has no safetensors header. Memory stays at two chunks of 4 MB.
    """
    whole, data = hashlib.sha256(), hashlib.sha256()
    with path.open("rb") as file:
        try:
            skip: int | None = 8 + header_length(file, path.stat().st_size)
        except ContainerError:
            skip = None
    if skip is None:
        for chunk in _chunks(path):
            whole.update(chunk)
        return whole.hexdigest(), None
    # hashlib lets go of the interpreter's lock, so that the second digest costs no time where
    # there is a second core.
    with ThreadPoolExecutor(max_workers=1) as pool:
        pending = None
        for chunk in _chunks(path):
            part = chunk[skip:] if skip else chunk
            skip = max(0, skip - len(chunk))
            if pending is not None:
                pending.result()
            pending = pool.submit(data.update, part)
            whole.update(chunk)
        if pending is not None:
            pending.result()
    return whole.hexdigest(), data.hexdigest()


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
