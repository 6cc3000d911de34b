"""The fork server of ``sandbox.py``: it has imported what readers need, and forks for each call.

A process of one thread that never reads a byte from a child: each child answers its caller through
a socket of its own. Its standard input is the socket to its parent, and it ends when that does.
"""

import contextlib
import gc
import importlib
import json
import os
import resource
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from triage import sandbox_child, sandbox_linux

# All that reading strangers' files imports. What is missing here is imported in each child anew.
PRELOADED = (
    "triage.claims",
    "triage.containers.check",
    "triage.lineage",
    "triage.picture_checks",
    "triage.text_parts",
    # What those import when they first need it: names in archives, sketches, formats of pictures.
    "encodings.cp437",
    "numpy.fft",
    "PIL.AvifImagePlugin",
    "PIL.BmpImagePlugin",
    "PIL.GifImagePlugin",
    "PIL.JpegImagePlugin",
    "PIL.PngImagePlugin",
    "PIL.PpmImagePlugin",
    "PIL.WebPImagePlugin",
)
READY = b"ready"
# Comes with each call: the seconds it may take. Two sockets travel with it, the child's and ours.
HEAD = struct.Struct("<d")
# Each call at work needs one.
_OPEN_FILES = 4096


@dataclass(slots=True, eq=False)
class _Child:
    """One call at work. When ``caller`` hangs up, or ``deadline`` has come, it is killed."""

    pid: int
    caller: socket.socket
    deadline: float
    killed: bool = False
    late: bool = False


def main() -> NoReturn:
    """Import, say so, and serve until the parent is gone."""
    parent = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sandbox_linux.close_memory()
    # When a whole house is told to end, workers finish what they can first, and need us for it.
    for polite in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(polite, signal.SIG_IGN)
    for name in PRELOADED:
        with contextlib.suppress(ImportError):  # the child that needs it will say so
            importlib.import_module(name)
    # Children share these pages as long as no collection writes to them.
    gc.collect()
    gc.freeze()
    server = _Server(parent)
    parent.sendall(READY)
    server.serve()


class _Server:
    """Forks children, kills each in time with all that it started, and reports how it ended."""

    def __init__(self, parent: socket.socket) -> None:
        self.parent = parent
        self.children: dict[int, _Child] = {}
        self.selector = selectors.DefaultSelector()
        self.selector.register(parent, selectors.EVENT_READ)
        # Becomes readable when a child has ended.
        self.ended, told = os.pipe()
        for end in (self.ended, told):
            os.set_blocking(end, False)
        self.selector.register(self.ended, selectors.EVENT_READ)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self.open_files = _OPEN_FILES if most == resource.RLIM_INFINITY else min(_OPEN_FILES, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (self.open_files, most))
        sandbox_linux.adopt_orphans()

    def serve(self) -> NoReturn:
        """Take calls until the parent is gone."""
        while True:
            for key, _ in self.selector.select(self._patience()):
                if key.fileobj is self.parent:
                    self._take()
                elif key.fileobj == self.ended:
                    os.read(self.ended, 4096)
                else:
                    # The caller has what it wants, or is gone; it never says anything.
                    self._kill(key.data)
            for child in self.children.values():
                if not child.killed and child.deadline <= time.monotonic():
                    child.late = True
                    self._kill(child)
            self._bury()

    def _patience(self) -> float | None:
        """Return the seconds until the next child has to be killed; None where none is at work."""
        deadlines = [child.deadline for child in self.children.values() if not child.killed]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _take(self) -> None:
        """Fork for the next call; end where there is none to come."""
        try:
            head, numbers, _, _ = socket.recv_fds(self.parent, HEAD.size, 2)
        except ConnectionError:
            head, numbers = b"", []
        if not head:
            for child in self.children.values():
                self._kill(child)
            os._exit(0)
        connection, caller = (socket.socket(fileno=number) for number in numbers)
        server = os.getpid()
        with connection:
            try:
                pid = os.fork()
            except OSError as error:
                _tell(caller, {"error": str(error)})
                return
            if pid == 0:
                try:
                    sandbox_child.do_call(connection, server, self.open_files)
                finally:
                    # Never back into the loop of the server.
                    os._exit(1)
        child = _Child(pid, caller, time.monotonic() + HEAD.unpack(head)[0])
        self.children[pid] = child
        self.selector.register(caller, selectors.EVENT_READ, child)

    def _kill(self, child: _Child) -> None:
        """Kill a child with its group. One that ended before keeps the status it ended with."""
        child.killed = True
        self.selector.unregister(child.caller)
        # Its number cannot be another process's yet: nobody has waited for it.
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            os.kill(child.pid, signal.SIGKILL)

    def _bury(self) -> None:
        """Report the end of children that were killed, and kill what they left behind."""
        for child in list(self.children.values()):
            if not child.killed:
                continue
            pid, status, used = os.wait4(child.pid, os.WNOHANG)
            if not pid:
                continue
            del self.children[child.pid]
            ending = {
                "status": os.waitstatus_to_exitcode(status),
                "late": child.late,
                "processor_seconds": used.ru_utime + used.ru_stime,
                "peak_memory": used.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
            }
            _tell(child.caller, ending)
        # What left its group is here once its own parent has ended.
        for orphan in sandbox_linux.children() - self.children.keys():
            os.kill(orphan, signal.SIGKILL)
            os.waitpid(orphan, os.WNOHANG)


def _tell(caller: socket.socket, message: Mapping[str, object]) -> None:
    """Tell a caller, who may have gone, how its call ended."""
    with caller, contextlib.suppress(OSError):
        caller.sendall(json.dumps(message).encode())
