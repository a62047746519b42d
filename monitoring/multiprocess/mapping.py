"""A shared file mapped for writing, as memoryviews that can be ended: after `end()` any access through them raises ValueError.

A forked child does not get the mapping, so it can never write into its parent's file, not even by mistake.
"""

from __future__ import annotations

import ctypes
import os
import sys

_PROT_READ_WRITE, _MAP_SHARED, _MADV_DONTFORK, _PYBUF_WRITE = 3, 1, 10, 0x200
_MAP_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_memoryview_at = ctypes.pythonapi.PyMemoryView_FromMemory
_memoryview_at.restype = ctypes.py_object
_memoryview_at.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int]
#: Without the GIL a reader may still be inside an ended view: its pages stay until the process ends.
_UNMAPS = getattr(sys, "_is_gil_enabled", lambda: True)()


class Mapping:
    """The first `length` bytes of the file behind `fd`, as `bytes` and as `doubles`. OSError where the kernel refuses.

    Bytes that the file lacks on its disk are SIGBUS when touched: allocate them first.
    """

    def __init__(self, fd: int, length: int, name: object) -> None:
        address = _libc.mmap(None, length, _PROT_READ_WRITE, _MAP_SHARED, fd, 0)
        if address in (None, _MAP_FAILED):
            number = ctypes.get_errno()
            raise OSError(number, f"mapping {name} failed: {os.strerror(number)}")
        _libc.madvise(address, length, _MADV_DONTFORK)
        self._address: int | None = address
        self._length = length
        self.bytes: memoryview[int]
        self.doubles: memoryview[float]
        self.begin()

    def begin(self) -> None:
        """Make the views, also anew after `end()`."""
        self.bytes = _memoryview_at(self._address, self._length, _PYBUF_WRITE)
        self.doubles = self.bytes.cast("d")

    def end(self) -> None:
        """End every access through the views that this process has given away. The pages stay mapped."""
        self.doubles.release()
        self.bytes.release()

    def content(self, length: int) -> bytes:
        """The first bytes of the file, also after `end()`."""
        assert self._address is not None
        return ctypes.string_at(self._address, length)

    def unmap(self) -> None:
        """End the views and give the pages back. Never in a forked child, where the address means nothing."""
        self.end()
        if self._address is not None and _UNMAPS:
            _libc.munmap(self._address, self._length)
        self._address = None
