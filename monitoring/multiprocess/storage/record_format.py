"""The format of value files, which is prometheus-client's: bytes to records and back.

Layout: int32 `used`, 4 bytes that upstream ignores (`Lineage`), then records of int32 key length, key (JSON, padded with spaces to
8 bytes), float64 value, float64 timestamp. A record counts once `used` covers it, so a writer that dies while appending leaves nothing.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

INITIAL_BYTES = 1 << 14
_INT = struct.Struct("i")
_HEAD = struct.Struct("iI")
_DOUBLES = struct.Struct("dd")
HEADER_BYTES = 8
#: The types of files whose values only grow.
CUMULATIVE = frozenset({"counter", "histogram", "summary"})
#: The header's second word: how often the file was salvaged (upper 12 bits) and rewritten by its holder (lower 20 bits).
SALVAGE_BITS, REWRITE_BITS = 12, 20
#: The value of a removed sample, to the bit. `-0.0 + x == x`: the next addition starts from 0.
REMOVED = -0.0
_UNSET = (REMOVED, 0.0)
_NO_BASE = (REMOVED, math.nan)
#: The value and timestamp of a new record, by file type. A gauge that is shown only once it is set starts as removed. The timestamp of
#: modes sum, max and min is their base: the value that the slot's former holders left (0 or NaN for none).
_BLANKS = {"gauge_max": _NO_BASE, "gauge_min": _NO_BASE, "gauge_sum": (0.0, 0.0), "gauge_livesum": (0.0, 0.0)}


class Record(NamedTuple):
    """One sample of a file: its raw key, value, timestamp (0 where unused) and the byte at which the value stands."""

    key: bytes
    value: float
    timestamp: float
    position: int


def removed(value: float) -> bool:
    """Whether a value in a slot's file marks a removed series."""
    return value == 0.0 and math.copysign(1.0, value) < 0.0


def blank(prefix: str) -> tuple[float, float]:
    """The value and timestamp of a new record in a file of this type (and gauge mode)."""
    return _BLANKS.get(prefix, _UNSET if prefix.startswith("gauge_") else (0.0, 0.0))


class Lineage(NamedTuple):
    """How a file came to be: two of one slot whose `salvages` agree hold the same samples, less those that were removed."""

    salvages: int
    rewrites: int

    @classmethod
    def of(cls, word: int) -> Lineage:
        """Parse the header's second word."""
        return cls(word >> REWRITE_BITS, word & ((1 << REWRITE_BITS) - 1))

    @property
    def word(self) -> int:
        """The header's second word."""
        return self.salvages << REWRITE_BITS | self.rewrites

    def continues(self, other: Lineage) -> bool:
        """Whether a file of this lineage is `other` after its holder rewrote it."""
        return self.salvages == other.salvages and self.rewrites != other.rewrites


def lineage(data: bytes) -> Lineage | None:
    """The lineage in a file's first bytes; None where they are too few."""
    if len(data) < HEADER_BYTES:
        return None
    return Lineage.of(_HEAD.unpack_from(data)[1])


@dataclass(frozen=True)
class Scan:
    """The records of a file before the first damage, their end, and the kind of damage ("" for none)."""

    records: list[Record]
    used: int
    damage: str


def scan(data: bytes) -> Scan:
    """Read the records of a file; any byte string is answered, none raises."""
    size = len(data)
    if size == 0:
        return Scan([], HEADER_BYTES, "empty")
    if size < HEADER_BYTES:
        return Scan([], HEADER_BYTES, "truncated")
    used = _INT.unpack_from(data)[0]
    if used == 0:
        return Scan([], HEADER_BYTES, "")
    if used < HEADER_BYTES or used % 8:
        return Scan([], HEADER_BYTES, "corrupt")
    records: list[Record] = []
    position = HEADER_BYTES
    while position < used:
        if position + 4 > size:
            return Scan(records, position, "truncated")
        length = _INT.unpack_from(data, position)[0]
        value_at = position + 4 + length + 8 - (length + 4) % 8
        if length <= 0 or value_at + 16 > used:
            return Scan(records, position, "corrupt")
        if value_at + 16 > size:
            return Scan(records, position, "truncated")
        key = data[position + 4 : position + 4 + length]
        if key[:2] != b'["' or key[-1:] != b"]":
            return Scan(records, position, "corrupt")
        value, timestamp = _DOUBLES.unpack_from(data, value_at)
        records.append(Record(key, value, timestamp, value_at))
        position = value_at + 16
    return Scan(records, position, "")


def encode(key: str, value: float = 0.0, timestamp: float = 0.0) -> bytes:
    """A record for `key`."""
    raw = key.encode()
    padded = raw + b" " * (8 - (len(raw) + 4) % 8)
    return _INT.pack(len(raw)) + padded + _DOUBLES.pack(value, timestamp)


def _decodable(records: Iterable[Record]) -> bool:
    try:
        for record in records:
            record.key.decode()
    except UnicodeDecodeError:
        return False
    return True


def intact(data: bytes) -> bool:
    """Whether a holder can map and continue a file with this content as it is."""
    result = scan(data)
    return not result.damage and len(data) >= INITIAL_BYTES and len(data) % os.sysconf("SC_PAGESIZE") == 0 and _decodable(result.records)


def capacity_for(needed: int, capacity: int = INITIAL_BYTES) -> int:
    """How many bytes a file of now `capacity` gets, where `needed` must fit."""
    while capacity < needed:
        capacity += min(capacity, 1 << 20)
    return capacity


def rebuild(records: Iterable[Record], origin: Lineage | None = None, room: int = 0) -> bytes:
    """The content of a file that holds these records, and has room for more."""
    body = bytearray(HEADER_BYTES)
    for record in records:
        try:
            body += encode(record.key.decode(), record.value, record.timestamp)
        except UnicodeDecodeError:
            continue
    origin = origin or Lineage(0, 0)
    word = (origin.salvages % (1 << SALVAGE_BITS)) << REWRITE_BITS | origin.rewrites % (1 << REWRITE_BITS)
    _HEAD.pack_into(body, 0, len(body), word)
    return bytes(body.ljust(capacity_for(len(body) + room), b"\0"))
