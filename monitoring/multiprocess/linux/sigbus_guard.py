"""Keeps this process alive when a mapped file is truncated from outside: reading the lost pages is a SIGBUS, which ends a process.

The handler puts zeros in place of the lost pages and the read is repeated. It handles guarded mappings only; any other SIGBUS goes to
the handler that was installed before.
"""

from __future__ import annotations

import ctypes
import signal
import sys
from typing import Any

from . import mmap
from .mmap import PAGE, libc

_SA_SIGINFO, _SA_ONSTACK = 4, 0x08000000


def guard(address: int, length: int) -> None:
    """Replace lost pages of this mapping by zeros, until `unguard`."""
    _install()
    _guarded[address] = address + length


def unguard(address: int) -> bool:
    """End the guard of a mapping; return whether there was one."""
    return _guarded.pop(address, None) is not None


def active() -> bool:
    """Return whether guarded mappings can be read whatever becomes of their files: no other handler has replaced this one."""
    return _installed and _current().handler == _ADDRESS


class _SignalInfo(ctypes.Structure):
    """The beginning of siginfo_t, with the address of the fault (sigaction(2))."""

    _fields_ = (
        ("number", ctypes.c_int),
        ("error", ctypes.c_int),
        ("code", ctypes.c_int),
        ("_", ctypes.c_int),
        ("address", ctypes.c_size_t),
    )


class _Action(ctypes.Structure):
    """struct sigaction of glibc and musl on 64-bit Linux."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


#: Start and end of each guarded mapping. Changed by single operations on the dict only.
_guarded: dict[int, int] = {}
_former = _Action()
_installed = False


def _handle(_number: int, info: Any, _context: Any) -> None:
    """Run in the thread that read past the end of a file, at that read, which is repeated afterwards."""
    address = info.contents.address
    for start, end in list(_guarded.items()):
        if start <= address < end:
            page = address - address % PAGE
            # The rest of the file is gone as well.
            mmap.blank(page, end - page)
            return
    # Not a guarded mapping: the read is repeated under the former handler.
    libc.sigaction(signal.SIGBUS, ctypes.byref(_former), None)


#: It must live as long as the process.
_handler = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.POINTER(_SignalInfo), ctypes.c_void_p)(_handle)
_ADDRESS = ctypes.cast(_handler, ctypes.c_void_p).value


def _current() -> _Action:
    action = _Action()
    libc.sigaction(signal.SIGBUS, None, ctypes.byref(action))
    return action


def _install() -> None:
    """Install the handler, once per process; forked children inherit it.

    Without a lock: two threads, or a thread and a signal handler, may install it at once. Both find the same former handler.
    """
    global _former, _installed  # one per process, by design
    if _installed or sys.maxsize < 1 << 32:
        return
    former = _current()
    if former.handler != _ADDRESS:
        _former = former
        action = _Action(_ADDRESS, flags=_SA_SIGINFO | _SA_ONSTACK)
        if libc.sigaction(signal.SIGBUS, ctypes.byref(action), None):
            return
    _installed = True
