"""Takes rights away from this process for good: which files it may read and write, which ports it may use.

Linux's Landlock does it in the kernel, so it holds whatever the program is talked into. Other systems have nothing like
it that needs no special rights: there this does nothing, and says so.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

# The same numbers on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH, _NET_PORT = 1, 2
_NO_NEW_PRIVILEGES = 38

_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_TRUNCATE = 1 << 14
# What a rule for a single file may name: execute, write, read, truncate.
_OF_FILES = 0b111 | _TRUNCATE
_READ = _READ_FILE | _READ_DIR
# Rights to files by ABI version: execute ... make symlinks, then refer, truncate, device ioctls.
_ALL_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_ALL_SINCE_5 = (1 << 16) - 1
_BIND_TCP, _CONNECT_TCP = 1, 2
# Abstract unix sockets and signals that lead out of the process.
_SCOPES = 0b11


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


class _Port(ctypes.Structure):
    _fields_ = (("allowed", ctypes.c_uint64), ("port", ctypes.c_uint64))


def landlock_version() -> int:
    """Return the version of Landlock that the kernel offers, 0 for none."""
    if sys.platform != "linux":
        return 0
    return max(0, int(ctypes.CDLL(None, use_errno=True).syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)))


def confine(*, read: Iterable[Path], write: Iterable[Path], listen: int) -> str:
    """Allow reading and writing beneath these paths and listening on one port; forbid other files, TCP and programs.

    Holds for this thread and those that it starts: call it before there are others. Returns what was done, for a log.
    """
    version = landlock_version()
    if version == 0:
        return "not confined: this system has no Landlock"
    every = _ALL_BY_ABI.get(version, _ALL_SINCE_5)
    net = _BIND_TCP | _CONNECT_TCP if version >= 4 else 0
    kernel = ctypes.CDLL(None, use_errno=True)
    handled = _Ruleset(every, net, _SCOPES if version >= 6 else 0)
    # Older kernels know a shorter structure and refuse a longer one that isn't zero at its end.
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = _checked(kernel.syscall(_CREATE_RULESET, ctypes.byref(handled), size, 0), "make a ruleset")
    try:
        for path in read:
            _allow(kernel, ruleset, path, _READ & every)
        for path in write:
            # All but running programs from there.
            _allow(kernel, ruleset, path, every & ~1)
        if net:
            rule = _Port(_BIND_TCP, listen)
            _checked(kernel.syscall(_ADD_RULE, ruleset, _NET_PORT, ctypes.byref(rule), 0), "allow a port")
        _checked(kernel.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0), "give up new privileges")
        _checked(kernel.syscall(_RESTRICT_SELF, ruleset, 0), "confine the process")
    finally:
        os.close(ruleset)
    return f"confined by Landlock {version}: files{', TCP' if net else ''} and programs"


def _allow(kernel: ctypes.CDLL, ruleset: int, path: Path, rights: int) -> None:
    # What isn't there on this system can't be read either.
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISDIR(os.fstat(handle).st_mode):
                rights &= _OF_FILES
            rule = _Beneath(rights, handle)
            _checked(kernel.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0), f"allow {path}")
        finally:
            os.close(handle)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock cannot {what}: {os.strerror(number)}")
    return result
