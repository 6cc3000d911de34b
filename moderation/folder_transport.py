"""The messages of a house on one machine, as files in a folder: whole ones, or none.

kombu's own file transport writes under the name that its readers look for, and its readers do not
wait for the writer: whoever is killed, or out of disk, in between leaves half a message, and
every worker that reads it dies. Here a message gets its name when it is whole, and what cannot be
read is put aside.
"""

import contextlib
import logging
import time
import uuid
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport import filesystem
from kombu.utils.json import dumps, loads

logger = logging.getLogger(__name__)


class Channel(filesystem.Channel):
    """Writes whole messages, and survives those that are not."""

    # What kombu calls the second parameter differs between its own classes.
    def _put(self, queue: str, payload: Any, **_: Any) -> None:  # type: ignore[override]
        """Put a message onto a queue. Raises ChannelError where the folder takes none."""
        # In the order of their sending, as kombu names them.
        name = f"{round(time.monotonic() * 1000)}_{uuid.uuid4()}.{queue}.msg"
        path = Path(self.data_folder_out) / name
        written = path.with_suffix(".writing")
        try:
            written.write_text(dumps(payload), encoding="utf-8")
            written.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                written.unlink(missing_ok=True)
            raise ChannelError(f"The message {name} cannot be written: {error}") from error

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        """Take the oldest message of a queue that can be read. Raises Empty."""
        paths = Path(self.data_folder_in).iterdir()
        for path in sorted(path for path in paths if _queue_of(path) == queue):
            taken = path.with_suffix(".taken")
            try:
                path.rename(taken)
            except FileNotFoundError:
                # Another thread or worker was faster.
                continue
            payload = _read(taken)
            if payload is not None:
                taken.unlink()
                return payload
            aside = path.with_suffix(".unreadable")
            taken.rename(aside)
            logger.warning("A message cannot be read; it was put aside: %s", aside)
        raise Empty


class Transport(filesystem.Transport):
    """kombu's transport over files, with the channel above."""

    Channel = Channel


def _queue_of(path: Path) -> str:
    return path.name.partition(".")[2].removesuffix(".msg") if path.suffix == ".msg" else ""


def _read(path: Path) -> dict[str, Any] | None:
    """Return a message, or nothing where the file does not hold a whole one."""
    try:
        payload = loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    # What kombu reaches for as soon as it has a message.
    is_whole = isinstance(payload, dict) and {"body", "properties"} <= payload.keys()
    return payload if is_whole else None
