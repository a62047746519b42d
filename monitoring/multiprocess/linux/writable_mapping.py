"""A shared file mapped for writing, as memoryviews that can be ended: after `end()` any access through them raises ValueError.

A forked child does not inherit the mapping, so it can never write to the file of its parent by mistake.
"""

from __future__ import annotations

import ctypes
import sys

from . import mmap

#: Without the GIL a reader may still be inside an ended view: its pages stay until the process ends.
_UNMAPS = getattr(sys, "_is_gil_enabled", lambda: True)()


class WritableMapping:
    """The first `length` bytes of the file behind `fd`, as `bytes` and as `doubles`. OSError where the kernel refuses.

    Bytes that the file lacks on its disk are SIGBUS when touched: allocate them first.
    """

    def __init__(self, fd: int, length: int, name: object) -> None:
        address = mmap.share(fd, length, name, write=True)
        mmap.keep_from_children(address, length, name)
        self._address: int | None = address
        self._length = length
        self.bytes: memoryview[int]
        self.doubles: memoryview[float]
        self.begin()

    @property
    def address(self) -> int:
        """The address of the first byte, until `unmap()`."""
        assert self._address is not None
        return self._address

    def begin(self) -> None:
        """Create the views, also again after `end()`."""
        assert self._address is not None
        self.bytes = mmap.memory(self._address, self._length, write=True)
        self.doubles = self.bytes.cast("d")

    def end(self) -> None:
        """End every access through the views. The pages stay mapped."""
        self.doubles.release()
        self.bytes.release()

    def content(self, length: int) -> bytes:
        """Return the first bytes of the file, also after `end()`."""
        assert self._address is not None
        return ctypes.string_at(self._address, length)

    def unmap(self) -> None:
        """End the views and unmap the pages. Never in a forked child, where the address means nothing."""
        self.end()
        if self._address is not None and _UNMAPS:
            mmap.unmap(self._address, self._length)
        self._address = None
