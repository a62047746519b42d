"""Value files in prometheus-client's format: a process maps its own and writes doubles; views scan them.

Layout: int32 `used`, 4 bytes of padding, then records of int32 key length, key (JSON, padded with spaces to 8 bytes), float64 value,
float64 timestamp. A record counts once `used` covers it, so a writer that dies while appending leaves nothing behind.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

INITIAL_BYTES = 1 << 14
_PROT_READ_WRITE, _MAP_SHARED, _MADV_DONTFORK, _PYBUF_WRITE = 3, 1, 10, 0x200
_MAP_FAILED = ctypes.c_void_p(-1).value
_INT = struct.Struct("i")
_DOUBLES = struct.Struct("dd")
_HEADER = 8
#: What a process lacks at a moment says nothing about the file.
LACKING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

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
_memoryview_at = ctypes.pythonapi.PyMemoryView_FromMemory
_memoryview_at.restype = ctypes.py_object
_memoryview_at.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int]


class Record(NamedTuple):
    """One sample of a file: its raw key, value, timestamp (0 where unused) and the byte at which the value stands."""

    key: bytes
    value: float
    timestamp: float
    position: int


@dataclass(frozen=True)
class Scan:
    """What a file's bytes say: the records before the first damage, where they end, and what the damage is ("" for none)."""

    records: list[Record]
    used: int
    damage: str


def scan(data: bytes) -> Scan:  # noqa: PLR0911 - one return per kind of damage
    """Read the records of a file; any byte string is answered, none raises."""
    size = len(data)
    if size == 0:
        return Scan([], _HEADER, "empty")
    if size < _HEADER:
        return Scan([], _HEADER, "truncated")
    used = _INT.unpack_from(data)[0]
    if used == 0:
        return Scan([], _HEADER, "")
    if used < _HEADER or used % 8:
        return Scan([], _HEADER, "corrupt")
    records: list[Record] = []
    position = _HEADER
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


def encode(key: str) -> bytes:
    """A record for `key` with value 0 and timestamp 0."""
    raw = key.encode()
    padded = raw + b" " * (8 - (len(raw) + 4) % 8)
    return _INT.pack(len(raw)) + padded + bytes(16)


class ValueFile:
    """The file of one type (and gauge mode) in one slot, mapped for writing by the slot's holder.

    It continues what a former holder left, after salvaging the records before any damage. Growth maps the whole file once more and
    keeps the older mapping: both show the same pages, so no cell ever has to move. Raises OSError (ENOSPC) where blocks lack.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cells: dict[str, tuple[memoryview[float], int]] = {}
        self.found: dict[str, tuple[float, float]] = {}
        self._views: list[memoryview[float]] = []
        self._bytes: memoryview[int]
        self._doubles: memoryview[float]
        fd, data = self._open()
        try:
            info = os.fstat(fd)
            self._inode = (info.st_dev, info.st_ino)
            os.posix_fallocate(fd, 0, info.st_size)
            self._map(fd, info.st_size)
        finally:
            os.close(fd)
        result = scan(data)
        self._used = result.used
        for record in result.records:
            key = record.key.decode()
            self.cells[key] = (self._doubles, record.position // 8)
            self.found[key] = (record.value, record.timestamp)

    def ensure(self, keys: Sequence[str]) -> list[tuple[memoryview[float], int]]:
        """The (doubles, index) of each key's value, its timestamp one further; new keys are added together or, with OSError, not at all."""
        missing = [key for key in dict.fromkeys(keys) if key not in self.cells]
        if missing:
            records = [encode(key) for key in missing]
            total = sum(map(len, records))
            if self._used + total > self._capacity:
                self._grow(self._used + total)
            ends = []
            position = self._used
            for record in records:
                self._bytes[position : position + len(record)] = record
                position += len(record)
                ends.append(position)
            self._publish(position)
            for key, end in zip(missing, ends, strict=True):
                self.cells[key] = (self._doubles, (end - 16) // 8)
        return [self.cells[key] for key in keys]

    def forget(self) -> None:
        """In a forked child: end every access through this object; the mappings themselves stayed with the parent."""
        for view in self._views:
            view.release()

    def _publish(self, used: int) -> None:
        self._bytes[0:4] = _INT.pack(used)
        self._used = used

    def _open(self) -> tuple[int, bytes]:
        content = read_regular(self.path)
        if not isinstance(content, str):
            data = content[0]
            result = scan(data)
            pages = len(data) % os.sysconf("SC_PAGESIZE") == 0
            if not result.damage and len(data) >= INITIAL_BYTES and pages and _decodable(result.records):
                return os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW), data
            data = _rebuild(result.records)
        else:
            data = _rebuild([])
        return self._create(data), data

    def _create(self, data: bytes) -> int:
        temporary = self.path.with_suffix(".tmp")
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            os.posix_fallocate(fd, 0, len(data))
            os.pwrite(fd, data, 0)
            temporary.replace(self.path)
        except BaseException:
            os.close(fd)
            temporary.unlink(missing_ok=True)
            raise
        return fd

    def _grow(self, needed: int) -> None:
        capacity = self._capacity
        while capacity < needed:
            capacity += min(capacity, 1 << 20)
        # Reopened by name: a kept descriptor may have been closed, and its number be somebody else's file by now.
        fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            info = os.fstat(fd)
            if (info.st_dev, info.st_ino) != self._inode:
                raise OSError(
                    errno.ESTALE,
                    f"{self.path} was replaced by somebody else while this process wrote it",
                )
            os.posix_fallocate(fd, 0, capacity)
            self._map(fd, capacity)
        finally:
            os.close(fd)

    def _map(self, fd: int, capacity: int) -> None:
        address = _libc.mmap(None, capacity, _PROT_READ_WRITE, _MAP_SHARED, fd, 0)
        if address in (None, _MAP_FAILED):
            number = ctypes.get_errno()
            raise OSError(number, f"mapping {self.path} failed: {os.strerror(number)}")
        # A child must never write into its parent's file, not even by mistake.
        _libc.madvise(address, capacity, _MADV_DONTFORK)
        # Only now: a limit of the address space refuses the mapping, and then the one before is all that there is.
        self._capacity = capacity
        self._bytes = _memoryview_at(address, capacity, _PYBUF_WRITE)
        self._doubles = self._bytes.cast("d")
        self._views.append(self._doubles)


def read_regular(path: Path | str) -> tuple[bytes, int] | str:
    """The bytes and inode of a regular file, or the reason why there are none: missing, not_regular, unreadable.

    OSError where this process lacks descriptors or memory: the file may be as good as ever, and nobody may replace it.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        if error.errno in LACKING:
            raise
        return "not_regular" if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR) else "unreadable"
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            return "not_regular"
        return _read_all(fd, info.st_size), info.st_ino
    except OSError as error:
        if error.errno in LACKING:
            raise
        return "unreadable"
    finally:
        os.close(fd)


def _read_all(fd: int, size: int) -> bytes:
    data = os.pread(fd, size, 0)
    while len(data) < size:
        more = os.pread(fd, size - len(data), len(data))
        if not more:
            break
        data += more
    return data


def _decodable(records: Iterable[Record]) -> bool:
    try:
        for record in records:
            record.key.decode()
    except UnicodeDecodeError:
        return False
    return True


def _rebuild(records: Iterable[Record]) -> bytes:
    body = bytearray(_HEADER)
    for record in records:
        try:
            entry = encode(record.key.decode())
        except UnicodeDecodeError:
            continue
        body += entry[:-16] + _DOUBLES.pack(record.value, record.timestamp)
    _INT.pack_into(body, 0, len(body))
    capacity = INITIAL_BYTES
    while capacity < len(body):
        capacity += min(capacity, 1 << 20)
    return bytes(body.ljust(capacity, b"\0"))
