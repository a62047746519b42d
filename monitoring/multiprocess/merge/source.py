"""One value file of the directory: whether it can be read, its samples, and the amounts that it has lost.

Within a run a file's part of a counter, histogram or summary never falls, however the file is damaged, lost or salvaged.
"""

from __future__ import annotations

import math
import os
import struct
import sys
from typing import TYPE_CHECKING, Any

from monitoring.multiprocess.linux import readonly_mapping, regular_file
from monitoring.multiprocess.storage import paths
from monitoring.multiprocess.storage.record_format import CUMULATIVE, Lineage, removed

from .samples import Samples

if TYPE_CHECKING:
    from .key_table import Keys
    from .template_parser import Templates, Whole
    from .vectors import PlainVectors

_HEADER = struct.Struct("iI")
#: The end of a record for a sample that the file lacks. Its key then ends with the header, which changes when the file grows.
_LOST_END = _HEADER.size + 16


class Source:
    """A value file's place in the directory."""

    def __init__(self, path: str, kind: str, mode: str, identifier: str) -> None:
        self.path = path
        self.name = os.path.basename(path)
        self.type = kind
        self.mode = mode
        self.identifier = identifier
        number = identifier[1:]
        #: The slot that the file belongs to; None for the files of other writers.
        self.slot = int(number) if identifier[:1] == "s" and number.isascii() and number.isdecimal() else None
        #: Files are added up in this order: by slot, then those of other writers by name.
        self.order = (self.slot is None, self.slot or 0, self.name)
        #: Whether its samples stay where the file is gone.
        self.cumulative = kind in CUMULATIVE
        #: Whether its values end with their writer.
        self.live = mode.startswith("live")
        #: The reason why the file cannot be read; "" while it is good.
        self.trouble = ""
        #: Bytes that the file takes.
        self.size = 0
        #: Amounts of a counter, histogram or summary that the file has lost, by key: they are still counted.
        self.carried: dict[int, float] = {}
        #: Which sample of the file each of these amounts is added to, and the keys that the file itself does not have.
        self._rows: dict[int, int] = {}
        self._absent: frozenset[int] = frozenset()
        #: The keys that were readable when the file was found damaged.
        self._survivors: frozenset[int] = frozenset()
        self._recent = mode.endswith("mostrecent")
        self._inode = 0

    def read(self, former: Samples | None, keys: Keys, templates: Templates, vectors: PlainVectors) -> Samples | None:
        """Read the file from its beginning. None where it cannot be read: `trouble` has the reason, and the former samples stay.

        Raises OSError where this process lacks descriptors or memory.
        """
        found = self._scan(keys, templates)
        if isinstance(found, str):
            self.lost(found)
            return None
        records, inode, content, mapping = found
        if mapping is None:
            self.lost(records.damage)
            self._survivors = frozenset(records.keys)
            return None
        words = vectors.words(memoryview(content.ljust(_LOST_END, b"\0")))
        samples = self._samples(records, mapping, words, vectors)
        if former is not None and self.cumulative:
            self._compare(samples, former, inode)
            if self.carried:
                samples = self._samples(self._with_lost(records, former, vectors), mapping, words, vectors)
                self.add_lost(samples.values, 0)
        self.trouble, self._inode, self._survivors = "", inode, frozenset()
        return samples

    def lost(self, reason: str) -> None:
        """Note that the file cannot be read. Its samples stay, except for gauges where it is missing."""
        self.trouble, self._survivors = reason, frozenset()

    def add_lost(self, values: Any, start: int) -> None:
        """Add lost amounts to the file's values, the first of which is at `start`. A series that was removed since has lost nothing."""
        for key, amount in list(self.carried.items()):
            row = start + self._rows[key]
            value = 0.0 if key in self._absent else values[row]
            if removed(value):
                del self.carried[key]
            else:
                values[row] = value + amount

    def used_keys(self) -> frozenset[int]:
        """Return the numbers of all keys that this object knows of."""
        return self._survivors.union(self.carried)

    def renumber(self, numbers: dict[int, int]) -> None:
        """Use the numbers of another key table."""
        self.carried = {numbers[key]: amount for key, amount in self.carried.items()}
        self._rows = {numbers[key]: row for key, row in self._rows.items() if key in numbers}
        self._absent = frozenset(numbers[key] for key in self._absent if key in numbers)
        self._survivors = frozenset(numbers[key] for key in self._survivors)

    def _scan(self, keys: Keys, templates: Templates) -> tuple[Whole, int, bytes, readonly_mapping.ReadOnlyMapping | None] | str:
        """Return the file's records, inode, bytes in use, and its mapping if all records are whole; or why it has none."""
        fd = regular_file.opened(self.path)
        if isinstance(fd, str):
            return fd
        try:
            info = os.fstat(fd)
            self.size = info.st_size
            head = os.pread(fd, _HEADER.size, 0)
            if len(head) < _HEADER.size:
                return "truncated" if head else "empty"
            used = _HEADER.unpack(head)[0] or _HEADER.size
            if used < _HEADER.size or used % 8:
                return "corrupt"
            # Bytes are read and not taken from the mapping: memory that may change is not parsed.
            content = head + regular_file.part(fd, _HEADER.size, min(used, info.st_size))
            records = templates.parse((self.type, self.mode), content, used, keys)
            mapping = None if records.damage else readonly_mapping.ReadOnlyMapping(fd, info.st_size)
        except OSError as error:
            if error.errno in regular_file.LACKING:
                raise
            return "unreadable"
        finally:
            os.close(fd)
        return records, info.st_ino, content, mapping

    def _samples(self, found: Whole, mapping: readonly_mapping.ReadOnlyMapping, words: Any, vectors: PlainVectors) -> Samples:
        values = vectors.blank(len(found.keys))
        keywords = vectors.joined([vectors.read(words, found.places, values)])
        if self.slot is None:
            vectors.show_zeros(values, 0, len(values))
        moments = vectors.moments(words, found.places) if self._recent else vectors.numbers([])
        head = vectors.heads(words, vectors.indexes([0]))[0]
        return Samples(found.keys, mapping, head, found.places, keywords, values, moments, vectors.room(len(values)))

    def _compare(self, now: Samples, former: Samples, inode: int) -> None:
        """Note the amounts that the file has lost: another file is there, or the same one repaired."""
        (used, lineage), (former_used, former_lineage) = _header(now.head), _header(former.head)
        damaged, replaced = bool(self.trouble), inode != self._inode
        values = dict(zip(now.keys, map(float, now.values), strict=True))
        if replaced and not damaged and self.slot is not None and lineage.continues(former_lineage):
            # Its holder rewrote it. Series that this dropped had been removed, and their lost amounts with them.
            dropped = frozenset(former.keys) - values.keys() - self._absent
            self.carried = {key: amount for key, amount in self.carried.items() if key not in dropped}
        elif damaged or replaced or used < former_used:
            for key, last in zip(former.keys, map(float, former.values), strict=True):
                value = values.get(key, 0.0)
                fell = value + self.carried.get(key, 0.0) < last
                if removed(value) or not fell:
                    continue  # nothing was lost, or the file was put back as it had been
                # A series that the damage took has started again at 0; any other one is only kept from falling.
                began_again = damaged and replaced and key not in self._survivors
                self.carried[key] = last if began_again else _difference(last, value)

    def _with_lost(self, found: Whole, former: Samples, vectors: PlainVectors) -> Whole:
        """Return the records and one for each key that the file has lost, in their former order: sums of floats depend on it."""
        self._absent = frozenset(self.carried).difference(found.keys)
        keys = [*found.keys, *self._absent]
        ranks = {key: rank for rank, key in enumerate(former.keys)}
        order = sorted(range(len(keys)), key=lambda row: ranks.get(keys[row], len(ranks)))
        places = vectors.joined([found.places, vectors.places([_LOST_END] * len(self._absent))])
        keys = [keys[row] for row in order]
        self._rows = {key: row for row, key in enumerate(keys) if key in self.carried}
        return found._replace(keys=keys, places=vectors.picked(places, order))


def new_source(path: str) -> Source | None:
    """Return the source of a file named as prometheus_client names them, or None for any other name."""
    name = paths.parse_value_file(os.path.basename(path))
    return None if name is None else Source(path, *name)


def _header(head: int) -> tuple[int, Lineage]:
    used, word = _HEADER.unpack(head.to_bytes(8, sys.byteorder, signed=True))
    return used, Lineage.of(word)


def _difference(last: float, value: float) -> float:
    """Return the amount that raises `value` to at least `last`, rounding included."""
    amount = last - value
    while value + amount < last:
        amount = math.nextafter(amount, math.inf)
    return amount
