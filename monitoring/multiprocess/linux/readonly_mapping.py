"""Value files mapped for reading, so that a scrape touches the doubles that it needs and copies nothing else.

A mapped file that somebody truncates from outside answers a read with SIGBUS, which would end the process. Here it does not: the
guard puts zeros in place of the lost pages, and the reader sees that its keys are gone, as in any other damaged file. The guard
answers for our own mappings only; every other SIGBUS goes to whoever handled it before.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from . import mmap
from .mmap import PAGE, libc

if TYPE_CHECKING:
    from collections.abc import Sequence

_SA_SIGINFO, _SA_ONSTACK = 4, 0x08000000


class Mapping:
    """The first `size` bytes of a file, readable through `memory` for as long as this object lives; nobody may keep a view longer."""

    def __init__(self, fd: int, size: int) -> None:
        _guard()
        self._length = size + -size % PAGE
        self.size = size
        address = mmap.share(fd, self._length, "a value file")
        self.address: int = address
        _mapped[address] = address + self._length
        self.memory: memoryview[int] = mmap.memory(address, size)

    def __del__(self) -> None:
        if _mapped.pop(getattr(self, "address", 0), None):
            mmap.unmap(self.address, self._length)


def span(mappings: Sequence[Mapping]) -> tuple[memoryview[int], list[int]]:
    """One memory that reaches over all these mappings, and at which byte of it each begins.

    What lies between them is not ours, nor mapped at all: only positions within the mappings may be read, while those live.
    """
    begin = min(mapping.address for mapping in mappings)
    end = max(mapping.address + mapping.size for mapping in mappings)
    return mmap.memory(begin, end - begin), [mapping.address - begin for mapping in mappings]


def guard(address: int, length: int) -> None:
    """Put zeros in place of pages that are lost, also in this mapping of somebody else, until `unguard`."""
    _guard()
    _mapped[address] = address + length


def unguard(address: int) -> None:
    """The mapping ends."""
    _mapped.pop(address, None)


def guarded() -> bool:
    """Whether a mapped file that is cut off can be read: nobody has put another handler in the place of ours."""
    now = _Action()
    return _handler is not None and libc.sigaction(signal.SIGBUS, None, ctypes.byref(now)) == 0 and now.handler == _address


class _SignalInfo(ctypes.Structure):
    """The part of siginfo_t that tells where the fault was (sigaction(2))."""

    _fields_ = (
        ("number", ctypes.c_int),
        ("error", ctypes.c_int),
        ("code", ctypes.c_int),
        ("_", ctypes.c_int),
        ("address", ctypes.c_size_t),
    )


class _Action(ctypes.Structure):
    """glibc's and musl's struct sigaction on 64-bit Linux."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


#: Begin and end of each living mapping. Only ever changed by single operations on a dict.
_mapped: dict[int, int] = {}
_installing = threading.Lock()
_former = _Action()
_handler: Any = None
_address: int | None = None


def _on_bus_error(_number: int, info: Any, _context: Any) -> None:
    """Runs in the thread that read beyond a file's end, at that very read, which is repeated afterwards."""
    address = info.contents.address
    for begin, end in list(_mapped.items()):
        if begin <= address < end:
            page = address - address % PAGE
            # The rest of the file is gone as well.
            mmap.blank(page, end - page)
            return
    # Not ours: the read is repeated under the former handler.
    libc.sigaction(signal.SIGBUS, ctypes.byref(_former), None)


def _guard() -> None:
    """Install the handler, once per process; children that fork inherit it."""
    global _handler, _address
    if _handler is not None or sys.maxsize < 1 << 32:
        return
    with _installing:
        if _handler is not None:
            return
        kind = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.POINTER(_SignalInfo), ctypes.c_void_p)
        handler = kind(_on_bus_error)
        _address = ctypes.cast(handler, ctypes.c_void_p).value
        action = _Action(_address, flags=_SA_SIGINFO | _SA_ONSTACK)
        if libc.sigaction(signal.SIGBUS, ctypes.byref(action), ctypes.byref(_former)) == 0:
            _handler = handler


os.register_at_fork(before=_installing.acquire, after_in_parent=_installing.release, after_in_child=_installing.release)
