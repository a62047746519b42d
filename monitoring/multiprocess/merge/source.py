"""What a view knows of each value file: its samples read last, kept where the file turns bad or vanishes.

One file is one `Source`. Its layout is parsed once: keys are append-only within one file, so a later look reads only doubles, and
parses what was appended. A file's contribution to a counter never falls within a run, however the file is damaged, lost or salvaged.
"""

from __future__ import annotations

import os
import struct
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from monitoring.multiprocess.linux import readonly_mapping, regular_file
from monitoring.multiprocess.storage import paths
from monitoring.multiprocess.storage.record_format import Lineage, removed

from .record_parser import parse

if TYPE_CHECKING:
    from .key_table import Keys
    from .template_parser import Patterns, Whole
    from .vectors import PlainVectors

_CUMULATIVE = frozenset({"counter", "histogram", "summary"})
_HEADER = struct.Struct("iI")


class Stand(NamedTuple):
    """Which file stands at a path: its inode, the bytes in use, and how it came to be."""

    inode: int
    used: int
    lineage: Lineage


class Lent(NamedTuple):
    """A good file's vectors, for reading it through its mapping, and what tells that it is the same: inode, bytes in use, first word."""

    inode: int
    used: int
    head: int
    mapping: readonly_mapping.Mapping
    places: Any
    keywords: Any
    values: Any
    moments: Any


class Source:
    """A file's place in the directory and its last good samples: `values[i]` (and `moments[i]`) of the key `keys[i]`."""

    def __init__(self, path: str, kind: str, mode: str, identifier: str, vectors: PlainVectors, patterns: Patterns) -> None:
        self.path = path
        self.type = kind
        self.mode = mode
        self.identifier = identifier
        number = identifier[1:]
        #: The slot that the file belongs to; None for files that are not ours.
        self.slot = int(number) if identifier[:1] == "s" and number.isascii() and number.isdecimal() else None
        #: Whether its values end with their writer.
        self.live = mode.startswith("live")
        #: What is wrong with the file now; "" while it is good.
        self.trouble = ""
        #: Bytes that the file takes.
        self.size = 0
        #: Amounts of a counter, histogram or summary that the file has lost: they still count.
        self.carried: dict[int, float] = {}
        #: Numbers of the keys, in the order of the file. Files that were read with the same keys share the list.
        self.keys: list[int] = []
        #: What the view derived from `keys`, which it resets to None when they change.
        self.placed: Any = None
        self._vectors = vectors
        self._patterns = patterns
        self._cumulative = kind in _CUMULATIVE
        self._recent = mode.endswith("mostrecent")
        self._survivors: frozenset[int] = frozenset()
        self._known = False
        self._keys_are_shared = False
        self._stand = Stand(0, 0, Lineage(0, 0))
        self._inode = 0
        self._mapping: readonly_mapping.Mapping
        self._words: Any = None
        self._places: Any
        self._keywords: Any
        self.values: Any
        self.moments: Any
        self._empty()

    def lend(self) -> Lent:
        """Give all vectors away, while there is no trouble: another one reads the file until `take_back`."""
        stand = self._stand
        # Not the word that stands there now: what was appended since has to be noticed.
        head = int.from_bytes(_HEADER.pack(stand.used, stand.lineage.word), sys.byteorder, signed=True)
        lent = Lent(stand.inode, stand.used, head, self._mapping, self._places, self._keywords, self.values, self.moments)
        self._places = self._keywords = self.values = self.moments = ()
        return lent

    def gained(self, keys: list[int], used: int, lineage: Lineage) -> None:
        """Know of records that were found behind the last one by whom the vectors are lent to."""
        if self._keys_are_shared:
            self.keys, self._keys_are_shared = [*self.keys, *keys], False
        else:
            self.keys += keys
        self._stand = Stand(self._stand.inode, used, lineage)

    def take_back(self, places: Any, keywords: Any, values: Any, moments: Any) -> None:
        """Have the vectors again, and read the file by itself."""
        self._places, self._keywords, self.values, self.moments = places, keywords, values, moments

    def refresh(self, keys: Keys) -> None:
        """Look at the file again; on trouble keep the last good samples and say in `trouble` what it is."""
        found = regular_file.inode_and_size(self.path)
        if isinstance(found, str):
            self.lost(found)
            return
        inode, self.size = found
        if self._words is not None and not self.trouble and inode == self._stand.inode:
            used, lineage = self._header()
            stand = Stand(inode, used, lineage)
            if used == self._stand.used <= self.size and self._read():
                return
            if self._stand.used < used <= self.size and used % 8 == 0 and self._continue(stand, keys):
                return
        self._look_anew(keys)

    def _continue(self, stand: Stand, keys: Keys) -> bool:
        """Read what was appended; False where the keys before it do no longer stand where they stood."""
        if not self._read():
            return False
        content = self._open(self._stand.used, stand)
        if isinstance(content, str):
            self.lost(content)
            return True
        records = parse(content, self._stand.used, stand.used, keys)
        if records.damage:
            self.lost(records.damage)
            self._survivors = frozenset([*self.keys, *records.keys])
        else:
            self._append(records.keys, self._vectors.places(records.ends))
            self._stand = stand
        return True

    def _look_anew(self, keys: Keys) -> None:
        """Read a file from its beginning: the first time, or as it is another one than before, or was damaged."""
        content = self._open(0, None)
        if isinstance(content, str):
            self.lost(content)
            return
        if len(content) < _HEADER.size:
            self.lost("empty" if not content else "truncated")
            return
        used, word = _HEADER.unpack_from(content)
        used = used or _HEADER.size
        if used < _HEADER.size or used % 8:
            self.lost("corrupt")
            return
        found = self._patterns.parse((self.type, self.mode), content, used, keys)
        if found.damage:
            self.lost(found.damage)
            self._survivors = frozenset(found.keys)
            return
        self._begin(found, Stand(self._inode, used, Lineage.of(word)))

    def _open(self, start: int, stand: Stand | None) -> bytes | str:
        """The bytes in use from `start` on, with the file mapped behind them; or why there are none.

        Bytes are read and not taken from the mapping: parsing is not done on what may change.
        """
        fd = regular_file.opened(self.path)
        if isinstance(fd, str):
            return fd
        try:
            info = os.fstat(fd)
            if stand is not None and info.st_ino != stand.inode:
                return "missing"  # replaced at this very moment; the next look is at the new one
            self._inode, self.size = info.st_ino, info.st_size
            if start == 0:
                head = os.pread(fd, _HEADER.size, 0)
                end = _HEADER.unpack(head)[0] if len(head) == _HEADER.size else 0
            else:
                end = stand.used if stand else 0
            content = regular_file.part(fd, start, max(min(end, info.st_size), _HEADER.size))
            if info.st_size >= _HEADER.size and not (self._words is not None and start and self._mapping.size >= end):
                self._words = None
                self._mapping = readonly_mapping.Mapping(fd, info.st_size)
                self._words = self._vectors.words(self._mapping.memory)
        except OSError as error:
            if error.errno in regular_file.LACKING:
                raise
            return "unreadable"
        finally:
            os.close(fd)
        return content

    def _header(self) -> tuple[int, Lineage]:
        word = int(self._words[0])
        used, lineage = _HEADER.unpack(word.to_bytes(8, sys.byteorder, signed=True))
        return used, Lineage.of(lineage)

    def lost(self, reason: str) -> None:
        """The file cannot be read: what it said last stays, except for gauges of a file that is gone."""
        self.trouble = reason
        self._survivors = frozenset()
        if reason == "missing" and not self._cumulative:
            self._empty()

    def renumber(self, numbers: dict[int, int]) -> None:
        """Follow a table of keys that was made anew."""
        self.keys = [numbers[number] for number in self.keys]
        self.carried = {numbers[number]: amount for number, amount in self.carried.items()}
        self._survivors = frozenset(numbers[number] for number in self._survivors if number in numbers)
        self.placed = None

    def _begin(self, found: Whole, stand: Stand) -> None:
        """Take the file for another one than before: the first, one that replaced it, or the same one repaired."""
        former = self._amounts() if self._known and self._cumulative else {}
        damaged = bool(self.trouble)
        replaced = stand.inode != self._stand.inode
        rewritten = replaced and not damaged and self.slot is not None and stand.lineage.continues(self._stand.lineage)
        self._empty()
        self._append(found.keys, found.places)
        if former and not rewritten and (damaged or replaced or stand.used < self._stand.used):
            self._carry(former, began_again=damaged and replaced)
        if rewritten and self.carried:
            # What the rewrite dropped was removed by its users, with all that had been lost of it.
            present = frozenset(self.keys)
            self.carried = {key: amount for key, amount in self.carried.items() if key in present}
        self.trouble, self._stand, self._known, self._survivors = "", stand, True, frozenset()

    def _empty(self) -> None:
        self.keys = []
        self._places = self._keywords = self._vectors.indexes([])
        self.values = self.moments = self._vectors.numbers([])
        self.placed = None

    def _append(self, keys: list[int], places: Any) -> None:
        """Keep where the records of these keys stand, and read them."""
        if not keys:
            return
        vectors = self._vectors
        values, keywords = vectors.read(self._words, places, None) or (None, None)
        values = values if self.slot is not None else vectors.valued(values)
        moments = vectors.moments(self._words, places) if self._recent else self.moments
        self._keys_are_shared = not self.keys
        if self.keys:
            keys = self.keys + keys
            places, keywords = vectors.joined(self._places, places), vectors.joined(self._keywords, keywords)
            values = vectors.joined(self.values, values)
            moments = vectors.joined(self.moments, moments) if self._recent else moments
        self._places, self._keywords, self.values, self.moments = places, keywords, values, moments
        self.keys = keys
        self._drop_removed()

    def _read(self) -> bool:
        """Read values through the mapping; False where the keys do no longer stand where they stood."""
        if not len(self._places):
            return True
        found = self._vectors.read(self._words, self._places, self._keywords)
        if found is None:
            return False
        self.values = found[0] if self.slot is not None else self._vectors.valued(found[0])
        if self._recent:
            self.moments = self._vectors.moments(self._words, self._places)
        self._drop_removed()
        return True

    def _drop_removed(self) -> None:
        if self.carried:
            gone = {key for key, value in zip(self.keys, self.values, strict=True) if key in self.carried and removed(value)}
            self.carried = {key: amount for key, amount in self.carried.items() if key not in gone}

    def _amounts(self) -> dict[int, float]:
        amounts = dict(zip(self.keys, map(float, self.values), strict=True))
        for key, amount in self.carried.items():
            amounts[key] = amounts.get(key, 0.0) + amount
        return amounts

    def _carry(self, former: dict[int, float], *, began_again: bool) -> None:
        """Another file stands here, or the same one repaired: what it lacks of the last good samples is added from now on."""
        fresh = dict(zip(self.keys, map(float, self.values), strict=True))
        for key, last in former.items():
            if removed(fresh.get(key, 0.0)):
                continue
            carried = self.carried.get(key, 0.0)
            missing = last - carried - fresh.get(key, 0.0)
            if missing > 0.0:  # else nothing was lost, or the file was put back as it had been
                self.carried[key] = last if began_again and key not in self._survivors else carried + missing
        self.placed = None


def source(path: str, vectors: PlainVectors, patterns: Patterns) -> Source | None:
    """The source of a file named as upstream names them, or None for any other name."""
    name = paths.parse_value_file(os.path.basename(path))
    return None if name is None else Source(path, *name, vectors, patterns)
