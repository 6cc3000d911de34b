"""What only Linux has to confine processes and to clean up after them; nothing elsewhere."""

import ctypes
import os
import signal
import sys
from pathlib import Path

# sched.h and prctl.h
_CLONE_NEWNET = 0x40000000
_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

# linux/landlock.h; the numbers of these calls are the same on every architecture.
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_CREATE_RULESET_VERSION = 1
_ACCESS_FS_EXECUTE = 1 << 0
_SCOPE_ABSTRACT_UNIX_SOCKET = 1 << 0
_SCOPE_SIGNAL = 1 << 1
# Every access that changes something, and the first version of Landlock that knows it.
_ACCESS_FS_CHANGE = (
    (1, 1 << 1),  # write into a file
    (1, 0b1_1111_1111 << 4),  # remove, or make, a file, folder, link, socket or device
    (2, 1 << 13),  # move to another folder
    (3, 1 << 14),  # cut short
)

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class _Ruleset(ctypes.Structure):
    """What is refused from now on. Kernels that know less want a shorter one."""

    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


def close_memory() -> None:
    """Let no process of the same user trace this one or open its memory and files.

    It holds for what it forks, too. Whoever has the capability to trace others still may.
    """
    if _libc:
        _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def adopt_orphans() -> None:
    """Make this process the parent of whatever its children leave behind."""
    if _libc:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children() -> set[int]:
    """Return the processes whose parent is this one, as far as the system tells."""
    number = os.getpid()
    try:
        return {int(n) for n in Path(f"/proc/{number}/task/{number}/children").read_text().split()}
    except OSError:
        return set()


def die_with_parent(parent: int) -> None:
    """Have this process killed when the one that forked it ends."""
    if _libc:
        _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it ended a moment before
            os._exit(1)


def leave_network() -> None:
    """Give up the network and new privileges, as far as the system lets an ordinary user."""
    if _libc:
        if _libc.unshare(_CLONE_NEWNET) != 0:
            # Many systems allow it inside a user namespace only, and containers often not at all.
            _libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
        _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def landlock_version() -> int:
    """Return what the kernel knows of Landlock; 0 where it is too old or has it switched off."""
    if not _libc:
        return 0
    flag = _LANDLOCK_CREATE_RULESET_VERSION
    return max(0, int(_libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), flag)))


def keep_apart(*, writes: bool) -> None:
    """Refuse this process, by Landlock, what no reader of files needs.

    It can start no program, trace no process of others, even as root, and unless it ``writes``
    change no file; from Linux 6.12 on it can send no signal to others either. Comes after
    ``leave_network``: an ordinary user may do this only after giving up new privileges.
    """
    version = landlock_version()
    if not _libc or not version:
        return
    changes = sum(access for since, access in _ACCESS_FS_CHANGE if since <= version)
    ruleset = _Ruleset(
        handled_access_fs=_ACCESS_FS_EXECUTE | (0 if writes else changes),
        scoped=_SCOPE_ABSTRACT_UNIX_SOCKET | _SCOPE_SIGNAL if version >= 6 else 0,
    )
    size = ctypes.c_size_t(24 if version >= 6 else 16 if version >= 4 else 8)
    descriptor = _libc.syscall(_LANDLOCK_CREATE_RULESET, ctypes.byref(ruleset), size, 0)
    if descriptor >= 0:
        _libc.syscall(_LANDLOCK_RESTRICT_SELF, descriptor, 0)
        os.close(descriptor)
