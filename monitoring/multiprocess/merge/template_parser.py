"""Parses files by comparing them with a template: workers of one service mostly have the same keys in the same order.

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

#: Bytes to parse before checking again whether the file matches the template.
_STRETCH = 1 << 11
#: Words to compare at first, and at most at once: a processor's cache holds them.
_WINDOW, _WIDEST = 1 << 10, 1 << 14
#: Files with fewer bytes in use are parsed: that costs less than to compare them.
_SMALL = 1 << 13
#: A match of this many records pays for the search.
_RUN = 64


class Whole(NamedTuple):
    """All records of a file: the numbers of their keys, where they stand (`vectors.places`), and the damage ("" for none)."""

    keys: list[int]
    places: Any
    damage: str


class Templates:
    """The longest file of each kind, kept while many files are read from their beginning."""

    def __init__(self, vectors: PlainVectors) -> None:
        self._vectors = vectors
        self._by_kind: dict[tuple[str, str], _Template] = {}

    def parse(self, kind: tuple[str, str], content: bytes, used: int, keys: Keys) -> Whole:
        """Return the records of a file of this type and mode, up to the first damage. Files with equal keys share one list."""
        vectors, template = self._vectors, self._by_kind.get(kind)
        if template is not None and used >= _SMALL:
            found = template.parse(content, used, keys)
        else:
            records = parse(content, 0, used, keys)
            found = Whole(records.keys, vectors.places(records.ends), records.damage)
        if used >= _SMALL and isinstance(vectors, NumpyVectors) and (template is None or len(found.keys) > len(template.keys)):
            self._by_kind[kind] = _Template(vectors, content, found)
        return found

    def clear(self) -> None:
        """Forget the templates."""
        self._by_kind.clear()


class _Template:
    """One file that was parsed: its bytes, the numbers of its keys, and where its records stand."""

    def __init__(self, vectors: NumpyVectors, content: bytes, found: Whole) -> None:
        self.keys, self._places, _ = found
        self._np, self._vectors = vectors.numpy, vectors
        self._words = vectors.words(memoryview(content))
        #: The word after each record; before them all the first word of the first one.
        self._ends = self._np.append(HEADER_BYTES >> 3, self._places[:, 1] + 2)
        #: Which words belong to keys, and not to values or timestamps.
        self._telling = self._np.ones(len(self._words), dtype=bool)
        self._telling[self._places[:, 1]] = self._telling[self._places[:, 1] + 1] = False
        self._numbers: dict[int, int] = {}

    def parse(self, content: bytes, used: int, keys: Keys) -> Whole:
        """Return the records of another file."""
        words = self._vectors.words(memoryview(content))
        position, at, stretch, damage = HEADER_BYTES, 0, _STRETCH // 2, ""
        numbers: list[list[int]] = []
        places: list[Any] = []
        while position < used and not damage:
            count = self._alike(words, position >> 3, at)
            if count:
                shift = (position >> 3) - int(self._ends[at])
                numbers.append(self.keys[at : at + count] if count < len(self.keys) else self.keys)
                places.append(self._places[at : at + count] + shift)
                position += 8 * int(self._ends[at + count] - self._ends[at])
            if position < used:
                # Another record than in the template, or behind its end: parse on, then compare from the next key that the template has.
                stretch = _STRETCH if count >= _RUN else 2 * stretch
                records = parse(content, 0, used, keys, position, position + stretch)
                numbers.append(records.keys)
                places.append(self._vectors.places(records.ends))
                damage = records.damage
                position = records.ends[-1] if records.ends else position
                at = self._following(records.keys)
        if len(numbers) == 1:
            return Whole(numbers[0], places[0], damage)
        places.append(self._vectors.places([]))
        return Whole([number for part in numbers for number in part], self._vectors.joined(places), damage)

    def _alike(self, words: Any, word: int, at: int) -> int:
        """Return how many records from `word` on match those from the template's record number `at` on."""
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
        """Return the template's record that follows the last of these keys there; the end where it has none."""
        if not self._numbers:
            self._numbers = {number: place for place, number in enumerate(self.keys)}
        return self._numbers.get(numbers[-1], len(self.keys) - 1) + 1 if numbers else len(self.keys)
