"""What happens in a child of the fork server: it is confined, does one call, and answers.

A stranger's file is touched only when the process has nothing open but the socket it answers
through, and stands under the limits that came with the call.
"""

import errno
import json
import mmap
import os
import resource
import signal
import socket
import sys
from collections.abc import Mapping

from triage import sandbox_linux

MEGABYTE = 1 << 20
# Written as it is: where memory has run out, there may be none left to make an answer in.
_OUT_OF_MEMORY = b'{"error": "memory"}\n'
# Standard input, output and error come before it, and lead nowhere.
_CONNECTION = 3


def do_call(connection: socket.socket, server: int, open_files: int) -> None:
    """Confine this process, read one call from ``connection``, do it, and answer in JSON.

    ``server`` is the process that forked this one; of its descriptors, all below ``open_files``,
    nothing but ``connection`` stays open.
    """
    # A group of its own, so that it is killed with all that it may start.
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(connection.detach(), _CONNECTION)
    os.closerange(_CONNECTION + 1, open_files)
    sandbox_linux.die_with_parent(server)
    with socket.socket(fileno=_CONNECTION) as only:
        only.sendall(_answer(only))


def _answer(connection: socket.socket) -> bytes:
    """Return what the call returned, or what it raised, as a line of JSON."""
    try:
        with connection.makefile("rb") as stream:
            call = json.loads(stream.read())
        os.chdir(call["folder"])
        sandbox_linux.leave_network()
        sandbox_linux.keep_apart(writes=call["limits"]["file_mb"] > 0)
        set_limits(call["limits"])
        sys.path[:] = call["path"]
        module = __import__(call["module"], fromlist=[call["function"]])
        result = getattr(module, call["function"])(*call["arguments"])
        # JSON holds no line break of its own, so one tells the caller that this is all.
        return json.dumps({"result": result}).encode() + b"\n"
    # Whatever a reader raises is its answer, and goes no further than this process.
    except BaseException as error:  # noqa: BLE001
        if _for_want_of_memory(error):
            return _OUT_OF_MEMORY
        message = f"{type(error).__name__}: {error}"[:2000]
        return json.dumps({"error": message}).encode() + b"\n"


def _for_want_of_memory(error: BaseException) -> bool:
    """Say whether an exception came of the limit, whatever the kernel and the reader made of it."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    try:
        mmap.mmap(-1, MEGABYTE).close()
    except OSError:
        return True
    return False


def set_limits(limits: Mapping[str, float]) -> None:
    """Limit memory, processor time, written files and open files, where the system has limits."""
    seconds = int(limits["seconds"]) + 1
    for name, soft, hard in (
        # All of the address space, what was there before the call included.
        ("RLIMIT_AS", int(limits["memory_mb"]) * MEGABYTE, None),
        ("RLIMIT_CPU", seconds, seconds + 1),
        ("RLIMIT_FSIZE", int(limits["file_mb"]) * MEGABYTE, None),
        ("RLIMIT_NOFILE", int(limits["open_files"]), None),
        ("RLIMIT_CORE", 0, None),
    ):
        kind = getattr(resource, name, None)
        if kind is None:
            continue
        ceiling = resource.getrlimit(kind)[1]
        wanted = soft if hard is None else hard
        if ceiling != resource.RLIM_INFINITY:
            wanted = min(wanted, ceiling)
        try:
            resource.setrlimit(kind, (min(soft, wanted), wanted))
        except ValueError:  # macOS refuses some limits that it has
            continue
