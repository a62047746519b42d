"""The users that each worker has seen: noted in memory that survives the worker, and moved to a database exactly once.

Every process has a mapped table of its own in the metrics directory: for each user (a 64-bit keyed hash, never a name) and window of
time, the number of requests and the time of the last one. The table has two halves. `take` lets notes go to the other half and returns
the half that no process writes to any more. The caller's database keeps the numbers of table and half with the sums, in one
transaction, so that nothing is added twice when the caller is killed. Only then is the half emptied. The table of a dead process is
continued by the next process that starts, or taken by the one that looks after the dead (`dead`).

Without a metrics directory, or on a full disk, the table is in the memory of this process.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from typing import TYPE_CHECKING, NamedTuple

from monitoring.multiprocess import SharedState, metrics_directory, paths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CAPACITY = 4096
"""The number of users and windows that fit into one half."""
TABLES = 4096

_MAGIC = b"users001"
_NUMBER, _HALF, _EMPTIED = 1, 2, 3
_HEADER_WORDS = 8
_ENTRY_WORDS = 4
_HALF_WORDS = CAPACITY * _ENTRY_WORDS
_USER, _WINDOW, _REQUESTS, _SEEN = range(_ENTRY_WORDS)


class Note(NamedTuple):
    """The requests of one user in one window, as one process saw them. `seen` is in milliseconds since 1970."""

    user: int
    window: int
    requests: int
    seen: int


class Taken(NamedTuple):
    """A half that no process writes to. Both numbers identify it; `half` only grows."""

    table: int
    half: int
    notes: list[Note]


def hashed(user: str, key: bytes) -> int:
    """Return the 64-bit keyed hash of a user as a signed number, never 0."""
    return int.from_bytes(hashlib.blake2b(user.encode(), digest_size=8, key=key).digest(), "little", signed=True) or 1


class _Halves(SharedState):
    """The file of one process: two halves of which one is written to."""

    def __init__(self) -> None:
        size = _HEADER_WORDS + 2 * _HALF_WORDS
        super().__init__("users", size, magic=_MAGIC, subject="the table of users", header=_HEADER_WORDS)

    def fresh(self) -> list[int]:
        return [*super().fresh(), secrets.randbits(62) + 1, 1, 0]

    def valid(self, words: memoryview[int]) -> bool:
        return super().valid(words) and words[_HALF] >= 1 and words[_HALF] - 2 <= words[_EMPTIED] < words[_HALF]

    def take(self) -> Taken | None:
        """Return the half that is to be taken next, the same one until it is `emptied`; None if all notes are taken."""
        words = self.words
        half = words[_HALF]
        if words[_EMPTIED] >= half - 1:
            if not words[_start(half) + _USER]:
                return None
            words[_HALF] = half + 1
            self.turned()
        else:
            half -= 1
        start = _start(half)
        rows = words[start : start + _HALF_WORDS].tolist()
        notes = []
        for at in range(0, _HALF_WORDS, _ENTRY_WORDS):
            if not rows[at]:
                break
            notes.append(Note(*rows[at : at + _ENTRY_WORDS]))
        return Taken(words[_NUMBER], half, notes)

    def emptied(self, taken: Taken) -> None:
        """Empty a half that is kept elsewhere now; a table that was replaced since stays as it is."""
        if taken.table == self.words[_NUMBER]:
            start = _start(taken.half)
            # From the first entry on: a half that has none at its start counts as empty.
            self.words[start : start + _HALF_WORDS] = memoryview(bytes(8 * _HALF_WORDS)).cast("q")
            self.words[_EMPTIED] = taken.half

    def turned(self) -> None:
        """React to the change of the half that is written to."""


class Table(_Halves):
    """The table of this process, opened at the first note. Not for several threads at once: notes are made in one event loop."""

    def __init__(self, window_seconds: int) -> None:
        self.window_seconds = window_seconds
        #: Notes that were lost because the half was full.
        self.lost = 0
        super().__init__()

    def note(self, user: int) -> None:
        """Note a request of this user (a 64-bit signed number, not 0) now."""
        now = time.time()
        at = self._places.get(user)
        if at is None or not self._window_ends - self.window_seconds <= now < self._window_ends:
            at = self._place(user, now)
            if at is None:
                self.lost += 1
                return
        words = self.words
        words[at + _SEEN] = int(now * 1000)
        words[at + _REQUESTS] += 1

    def take(self) -> Taken | None:
        if not self.intact() or (self._places and not self.words[_start(self.words[_HALF]) + _USER]):
            self.close()  # never opened, or the file was truncated from outside
            return None
        return super().take()

    def turned(self) -> None:
        """Write behind the notes of the current half from now on."""
        words, start = self.words, _start(self.words[_HALF])
        self._places: dict[int, int] = {}
        self._free, self._end = start, start + _HALF_WORDS
        while self._free < self._end and words[self._free + _USER]:
            if words[self._free + _WINDOW] == self._window:
                self._places[words[self._free + _USER]] = self._free
            self._free += _ENTRY_WORDS

    def attached(self, claim: Callable[[int], bool]) -> None:
        self.turned()

    def detached(self) -> None:
        self._places = {}
        self._window, self._window_ends = 0, 0.0
        self._free = self._end = 0

    def _place(self, user: int, now: float) -> int | None:
        """Find, or make, the entry of this user in the current window; None if the half is full."""
        if not self.intact() or (not self.shared and self._may_move()):
            self.open_first(paths.users_file(number) for number in range(TABLES))
        window = int(now // self.window_seconds)
        if window != self._window:
            self._window, self._window_ends = window, float((window + 1) * self.window_seconds)
            self.turned()
        at = self._places.get(user)
        if at is not None:
            return at
        if self._free >= self._end:
            return None
        at, words = self._free, self.words
        words[at + _WINDOW], words[at + _REQUESTS], words[at + _SEEN] = window, 0, int(now * 1000)
        words[at + _USER] = user  # last: an entry that is half made is not read
        self._free += _ENTRY_WORDS
        self._places[user] = at
        return at

    def _may_move(self) -> bool:
        """Return whether to try the file again: not while this process's memory has the only copy of notes."""
        half = self.words[_HALF]
        return self.words[_EMPTIED] >= half - 1 and not self.words[_start(half) + _USER] and self.due


def dead() -> Iterator[Taken]:
    """Yield the notes of each table that no process has, one half after the other; then remove the table.

    A half is emptied when the next one is asked for: ask only once it is kept. A file that cannot be opened is passed over.
    """
    directory = metrics_directory()
    for path in sorted(directory.glob(f"*{paths.USERS}")) if directory is not None else []:
        yield from _dead(path)


def _dead(path: Path) -> Iterator[Taken]:
    halves = _Halves()
    if halves.open_first([path.name]):
        try:
            while (taken := halves.take()) is not None:
                yield taken
                halves.emptied(taken)
            path.unlink(missing_ok=True)
        finally:
            halves.close()


def _start(half: int) -> int:
    return _HEADER_WORDS + (half & 1) * _HALF_WORDS
