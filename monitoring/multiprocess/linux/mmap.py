"""Pages of mapped files, by calls of libc: Python's mmap duplicates the descriptor, and a forked child inherits its mapping."""

from __future__ import annotations

import ctypes
import os

PAGE = os.sysconf("SC_PAGESIZE")
_READ, _WRITE = 1, 2
_SHARED, _PRIVATE, _FIXED, _ANONYMOUS = 1, 2, 0x10, 0x20
_DONTFORK = 10
_FAILED = ctypes.c_void_p(-1).value
_PYBUF_READ, _PYBUF_WRITE = 0x100, 0x200

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_memoryview = ctypes.pythonapi.PyMemoryView_FromMemory
_memoryview.restype = ctypes.py_object
_memoryview.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int]


def share(fd: int, length: int, name: object, *, write: bool = False) -> int:
    """Map the first `length` bytes of a file, shared, and return their address. `name` is the file in the text of an OSError."""
    address = libc.mmap(None, length, _READ | _WRITE if write else _READ, _SHARED, fd, 0)
    if address in (None, _FAILED):
        number = ctypes.get_errno()
        raise OSError(number, f"mapping {name} failed: {os.strerror(number)}")
    return int(address)


def keep_from_children(address: int, length: int, name: object) -> None:
    """Keep these pages from forked children. If the kernel refuses, they are unmapped and OSError is raised."""
    if libc.madvise(address, length, _DONTFORK):
        number = ctypes.get_errno()
        libc.munmap(address, length)
        raise OSError(number, f"madvise(MADV_DONTFORK) on {name} failed: {os.strerror(number)}")


def blank(address: int, length: int) -> None:
    """Replace mapped pages by zeros that only this process sees."""
    libc.mmap(address, length, _READ | _WRITE, _PRIVATE | _ANONYMOUS | _FIXED, -1, 0)


def unmap(address: int, length: int) -> None:
    """Unmap the pages. Never in a forked child that did not get them: the address means nothing there."""
    libc.munmap(address, length)


def memory(address: int, length: int, *, write: bool = False) -> memoryview[int]:
    """Return the bytes at an address. They may be used only while they are mapped."""
    return _memoryview(address, length, _PYBUF_WRITE if write else _PYBUF_READ)  # type: ignore[no-any-return]
