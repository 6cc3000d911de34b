"""Parts of the house on one machine that are started again when they die."""

import signal
import time
from ctypes import c_bool
from multiprocessing.sharedctypes import RawValue
from typing import Any

from honcho.manager import Manager
from honcho.process import Process

PAUSE_SECONDS = 2.0
# A part that dies more often than this within the window is broken, and the house ends with it.
MOST_DEATHS = 5
WINDOW_SECONDS = 300.0


class House(Manager):  # type: ignore[misc]
    """honcho's manager; what is named in ``kept`` is started again when it dies."""

    def __init__(self, kept: set[str]) -> None:
        super().__init__()
        # Without a lock, since a signal's handler sets it.
        self._is_ending = RawValue(c_bool, False)
        self._process_ctor = lambda command, name, **options: (
            Kept(command, name=name, is_ending=self._is_ending, **options)
            if name in kept
            else Process(command, name=name, **options)
        )

    def terminate(self) -> None:
        """Ask every part to end, and start none again."""
        self._is_ending.value = True
        super().terminate()


class Kept(Process):  # type: ignore[misc]
    """A part that is started again when it ends unasked, a few times."""

    def __init__(self, command: str, *, is_ending: Any, **options: Any) -> None:
        super().__init__(command, **options)
        self._is_ending = is_ending
        self._status: int | None = None

    def run(self, events: Any = None, ignore_signals: bool = False) -> None:
        """Run the part until the house ends or the part has died too often."""
        if ignore_signals:
            # Handled and not ignored: what is ignored would be ignored by the next child, too.
            signal.signal(signal.SIGINT, _leave_it_to_the_child)
            signal.signal(signal.SIGTERM, _leave_it_to_the_child)
        deaths: list[float] = []
        while True:
            super().run(events)
            now = time.monotonic()
            deaths = [death for death in deaths if now - death < WINDOW_SECONDS] + [now]
            if self._is_ending.value or len(deaths) > MOST_DEATHS:
                break
            self._say(f"died (status {self._status}); it is started again")
            time.sleep(PAUSE_SECONDS)
            if self._is_ending.value:
                break
        if not self._is_ending.value:
            self._say(f"died {len(deaths)} times within minutes and is given up")
        super()._send_message({"returncode": self._status}, type="stop")

    def _send_message(self, data: Any, type: str = "line") -> None:  # noqa: A002
        """Pass on what the part says; its end is told by ``run`` alone, once it is final."""
        if type == "stop":
            self._status = data["returncode"]
        else:
            super()._send_message(data, type=type)

    def _say(self, sentence: str) -> None:
        super()._send_message(f"{self.name} {sentence}.\n")


def _leave_it_to_the_child(signum: int, frame: Any) -> None:
    """Do nothing: the manager tells the child to end, and that ends the wait for it."""
