"""Files that begin with the same keys, as those of workers of one service often do: they are compared, and not parsed one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .vectors import PlainVectors


class Pattern:
    """A file that was parsed from its beginning: its bytes, the numbers of its keys, and where its records stand.

    Nobody changes these keys in place: all files that have just them share the list.
    """

    def __init__(self, vectors: PlainVectors, content: bytes, keys: list[int], places: Any) -> None:
        self.keys = keys
        self._vectors = vectors
        self._words = vectors.words(memoryview(content))
        self._places = places

    def leading(self, content: bytes) -> tuple[list[int], Any, int]:
        """The records with which another file begins as this one does: their keys and places, and the byte at which the last one ends."""
        count = self._vectors.alike(self._words, self._vectors.words(memoryview(content)), self._places)
        keys = self.keys if count == len(self.keys) else self.keys[:count]
        places = self._places[: 2 * count]
        return keys, places, (int(places[-1]) + 2) * 8 if count else 8
