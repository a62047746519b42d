"""Parses a value file's bytes to numbers of keys and ends of records. This is the part of reading that looks at every byte.

Nothing is trusted: anything but a record ends the parse, with a word for the damage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from monitoring.multiprocess.storage.record_format import HEADER_BYTES

if TYPE_CHECKING:
    from .key_table import Keys


class Parsed(NamedTuple):
    """The records of a file: the number of each key, the byte at which each record ends, and the damage that ended the scan too early."""

    keys: list[int]
    ends: list[int]
    damage: str


def parse(data: bytes, start: int, used: int, keys: Keys, position: int = 0, stop: int = 0) -> Parsed:
    """Return the records of a file from byte `position` on, up to the first damage. `data` is the file's part from byte `start` on.

    `position` defaults to the first record in `data`. The parse ends with the first record that reaches `stop`, where that is given.
    """
    records = Parsed([], [], "")
    found, heads, add, end_at = keys.ids.get, keys.heads, records.keys.append, records.ends.append
    size, end, position, next_number, count = len(data), used - start, (position or max(start, HEADER_BYTES)) - start, 0, len(keys)
    whole, starts_with = min(size, end), data.startswith
    last = min(whole - 3, stop - start) if stop else whole - 3
    lengths = memoryview(data)[: size - size % 4].cast("i")
    while position < last:
        if next_number < count and starts_with(heads[next_number], position):
            number, following = next_number, position + (len(heads[next_number]) + 24 & -8)
            if following > whole:
                return records._replace(damage="corrupt" if following > end else "truncated")
        else:
            length = lengths[position >> 2]
            following = position + (length + 28 & -8)
            if length <= 0 or following > whole:
                return records._replace(damage="corrupt" if length <= 0 or following > end else "truncated")
            head = data[position : position + 4 + length]
            known = found(head)
            if known is None:
                try:
                    known = keys.add(head)
                except ValueError:
                    return records._replace(damage="corrupt")
                count += 1
            number = known
        add(number)
        end_at(start + following)
        position, next_number = following, number + 1
    return records if position >= end or 0 < stop - start <= position else records._replace(damage="truncated")
