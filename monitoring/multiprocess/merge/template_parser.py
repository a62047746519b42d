"""Files of workers of one service mostly have the same keys in the same order: such runs are compared, and not parsed one by one.

Comparing needs numpy; without it every file is parsed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from monitoring.multiprocess.storage.record_format import HEADER_BYTES

from .record_parser import parse
from .vectors import NumpyVectors

if TYPE_CHECKING:
    from .key_table import Keys
    from .vectors import PlainVectors

#: How many bytes are parsed before it is asked again whether what follows is as in the pattern.
_STRETCH = 1 << 11
#: How many words are compared at first, and at most at once: what a processor's cache holds.
_WINDOW, _WIDEST = 1 << 10, 1 << 14
#: A run of so many records is worth being found.
_RUN = 64


class Whole(NamedTuple):
    """All records of a file: the numbers of their keys, where they stand (`vectors.places`), and what is wrong ("" for nothing)."""

    keys: list[int]
    places: Any
    damage: str


class Patterns:
    """The longest file of each kind, for as long as many files are read from their beginning."""

    def __init__(self, vectors: PlainVectors) -> None:
        self._vectors = vectors
        self._by_kind: dict[tuple[str, str], _Pattern] = {}

    def parse(self, kind: tuple[str, str], content: bytes, used: int, keys: Keys) -> Whole:
        """The records of a file of this type and mode, up to the first damage. Files with just the same keys get the same list."""
        vectors, pattern = self._vectors, self._by_kind.get(kind)
        if pattern is None:
            records = parse(content, 0, used, keys)
            found = Whole(records.keys, vectors.places(records.ends), records.damage)
        else:
            found = pattern.parse(content, used, keys)
        if isinstance(vectors, NumpyVectors) and (pattern is None or len(found.keys) > len(pattern.keys)):
            self._by_kind[kind] = _Pattern(vectors, content, found)
        return found

    def clear(self) -> None:
        """Forget them: what was read is known."""
        self._by_kind.clear()


class _Pattern:
    """One file that was parsed: its bytes, the numbers of its keys, and where its records stand."""

    def __init__(self, vectors: NumpyVectors, content: bytes, found: Whole) -> None:
        self.keys, self._places, _ = found
        self._np, self._vectors = vectors.numpy, vectors
        self._words = vectors.words(memoryview(content))
        #: Of each record the word behind it; before them all the first record's.
        self._ends = self._np.append(HEADER_BYTES >> 3, self._places[1::2] + 2)
        #: Which words say which record it is, and not what its value or timestamp is.
        self._telling = self._np.ones(len(self._words), dtype=bool)
        self._telling[self._places[1::2]] = self._telling[self._places[1::2] + 1] = False
        self._numbers: dict[int, int] = {}

    def parse(self, content: bytes, used: int, keys: Keys) -> Whole:
        """The records of another file."""
        words = self._vectors.words(memoryview(content))
        position, at, stretch, damage = HEADER_BYTES, 0, _STRETCH // 2, ""
        numbers: list[list[int]] = []
        places: list[Any] = []
        while position < used and not damage:
            count = self._alike(words, position >> 3, at)
            if count:
                shift = (position >> 3) - int(self._ends[at])
                numbers.append(self.keys[at : at + count] if count < len(self.keys) else self.keys)
                places.append(self._places[2 * at : 2 * (at + count)] + shift)
                position += 8 * int(self._ends[at + count] - self._ends[at])
            if position < used:
                # Another record than in the pattern, or behind its end: parse on, then compare what follows a key that the pattern has.
                stretch = _STRETCH if count >= _RUN else 2 * stretch
                records = parse(content, 0, used, keys, position, position + stretch)
                numbers.append(records.keys)
                places.append(self._vectors.places(records.ends))
                damage = records.damage
                position = records.ends[-1] if records.ends else position
                at = self._following(records.keys)
        if len(numbers) == 1:
            return Whole(numbers[0], places[0], damage)
        empty = self._vectors.places([])
        return Whole([number for part in numbers for number in part], self._np.concatenate([empty, *places]), damage)

    def _alike(self, words: Any, word: int, at: int) -> int:
        """How many records from `word` on are those from the pattern's record number `at` on."""
        start = int(self._ends[at])
        most = min(len(self._words) - start, len(words) - word)
        found, window = 0, _WINDOW
        while found < most:
            here = slice(start + found, start + min(found + window, most))
            differ = (self._words[here] != words[word + found : word + min(found + window, most)]) & self._telling[here]
            if differ.any():
                found += int(differ.argmax())
                break
            found, window = min(found + window, most), min(2 * window, _WIDEST)
        return int(self._np.searchsorted(self._ends, start + found, side="right")) - 1 - at

    def _following(self, numbers: list[int]) -> int:
        """The record of the pattern that follows the last of these keys there; the end where it has none."""
        if not self._numbers:
            self._numbers = {number: place for place, number in enumerate(self.keys)}
        return self._numbers.get(numbers[-1], len(self.keys) - 1) + 1 if numbers else len(self.keys)
