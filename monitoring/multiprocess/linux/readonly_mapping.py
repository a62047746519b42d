"""Value files mapped for reading, so that a scrape touches only the doubles that it needs and copies nothing.

A file that is truncated from outside reads as zeros (`sigbus_guard`); the reader sees that its keys are gone, as in any damaged file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from . import mmap, sigbus_guard
from .mmap import PAGE

if TYPE_CHECKING:
    from collections.abc import Sequence


class ReadOnlyMapping:
    """The first `size` bytes of a file, readable through `memory` for as long as this object lives. A view must not be kept longer."""

    def __init__(self, fd: int, size: int) -> None:
        self._length = size + -size % PAGE
        self.size = size
        address = mmap.share(fd, self._length, "a value file")
        self.address: int = address
        sigbus_guard.guard(address, self._length)
        self.memory: memoryview[int] = mmap.memory(address, size)

    def __del__(self) -> None:
        if sigbus_guard.unguard(getattr(self, "address", 0)):
            mmap.unmap(self.address, self._length)


class Memory(Protocol):
    """Memory that lives as long as this object: a mapping, or what stands in for one."""

    address: int
    size: int


def span(mappings: Sequence[Memory]) -> tuple[memoryview[int], list[int]]:
    """Return one memory that spans all these mappings, and the byte of it at which each starts.

    Only positions within the mappings may be read, while those live: the memory between them is not mapped, or not theirs.
    """
    begin = min(mapping.address for mapping in mappings)
    end = max(mapping.address + mapping.size + -mapping.size % PAGE for mapping in mappings)
    return mmap.memory(begin, end - begin), [mapping.address - begin for mapping in mappings]
