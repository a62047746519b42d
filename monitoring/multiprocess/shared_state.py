"""A file of 64-bit words in the metrics directory: one state, mapped by every worker that uses it.

A process opens the file at its first use, and makes it where it is missing or damaged. Locks on bytes of the file guard the words: one
while they change (`editing`), others until they are dropped (`hold`). The kernel frees them on any death. A file that is truncated from
outside reads as zeros instead of ending the process.

Without a metrics directory, or while the file cannot be used, the words are in the memory of this process. The file is tried again
after a second.

    uploads = SharedState("uploads", 2, magic=b"uploads1")
    with uploads.editing() as words:
        words[1] += 1
"""

from __future__ import annotations

import logging
import os
import stat
from array import array
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from monitoring.log_once import LogOnce
from monitoring.retry_later import Pause

from .linux import file_lock, file_owner, fork, regular_file, sigbus_guard
from .linux.writable_mapping import WritableMapping
from .storage import paths
from .worker.slot_store import Phase, store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    Words = memoryview[int]

#: The byte that is locked while the words change, far behind the end of the file. The bytes for `hold` follow it.
_EDIT = 1 << 40
_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_PATIENCE_SECONDS = 0.1
_log = logging.getLogger(__name__)
_problems = LogOnce(_log)


class SharedState:
    """`size` words that all processes of a run share under one `name`; the first is `magic`, eight bytes for their meaning and version.

    A subclass may refine `fresh` and `valid`, and learn from `attached` and `detached` when `words` are others. `subject` names the
    state in log lines. `header` is the number of words that `valid` needs.
    """

    def __init__(self, name: str, size: int, *, magic: bytes, subject: str = "", header: int = 1) -> None:
        self.subject = subject or f"the state {name!r}"
        self._file = paths.state_file(name)
        self._size, self._magic, self._header = size, int.from_bytes(magic, "little"), header
        self._held: set[int] = set()
        #: After a failure to use the file, and after a wait for its lock that was in vain.
        self._failed, self._waited = Pause(), Pause()
        self._exclusive = False
        self._reset()
        store.hooks.add(Phase.RENEWED, self._renewed)
        fork.forget_in_child(self.forget)

    def fresh(self) -> Sequence[int]:
        """Return the first words of a new state; the others are 0."""
        return [self._magic]

    def valid(self, words: Words) -> bool:
        """Return whether a header can have been written by this version."""
        return words[0] == self._magic

    def intact(self) -> bool:
        """Return whether `words` are still those of the file, and not the zeros of a truncated one."""
        return self.valid(self.words)

    def attached(self, claim: Callable[[int], bool]) -> None:
        """React to new `words`. `claim` locks a byte for as long as they stay; False where another process has it."""

    def detached(self) -> None:
        """React to the end of `words`: they are zeros now."""

    def damaged(self, path: str) -> None:
        """React to a damaged file, whose state was replaced by a fresh one."""
        _log.warning("%s: damaged. It is replaced: %s starts afresh", path, self.subject)

    @property
    def shared(self) -> bool:
        """Whether the words are those of the file."""
        return self._mapping is not None

    @property
    def due(self) -> bool:
        """Whether there is a directory, and no failure of the last second."""
        return store.directory is not None and self._failed.over

    @contextmanager
    def editing(self) -> Iterator[Words]:
        """Yield the words, valid, while no other process edits them.

        TimeoutError where another process keeps them for a tenth of a second, or this process lacks descriptors or memory: the caller
        may stand in an event loop.
        """
        with fork.mutex:
            fd = None
            try:
                try:
                    if self.shared or self.due:
                        fd = self._descriptor()
                        self._lock(fd)
                        self._map(fd)
                except OSError as error:
                    self._fail(error)
                self._require_intact()
                yield self.words
            finally:
                if fd is not None:
                    file_lock.unlock(fd, _EDIT)  # a mapping that was made through this descriptor would keep the lock
                    os.close(fd)

    def open_first(self, names: Iterable[str]) -> bool:
        """Open the first of these files that no other process has, and keep it from others until `close`; return whether there is one."""
        with fork.mutex:
            try:
                if self.due:
                    if self.shared:
                        self.close()
                    self._exclusive = any(map(self._open_alone, names))
            except OSError as error:
                self._fail(error)
            self._require_intact()
            return self.shared

    def hold(self, byte: int) -> int | None:
        """Lock a byte of the file for as long as this process lives; return what `drop` needs, None where the byte is not free."""
        with fork.mutex:
            held = -1 - byte if self._mapping is None else self._hold(byte)
            if held is None or held in self._held:
                return None
            self._held.add(held)
            return held

    def drop(self, held: int) -> None:
        """End a `hold`. A forked child does not have what its parent held: there it changes nothing."""
        with fork.mutex:
            if held in self._held:
                self._held.remove(held)
                if held > 0:
                    file_lock.drop(held)

    def close(self) -> None:
        """Let go of the file."""
        mapping, words = self._mapping, self.words
        self._held = {held for held in self._held if held > 0}
        self._reset()
        if mapping is not None:
            words.release()
            sigbus_guard.unguard(mapping.address)
            mapping.unmap()

    def forget(self) -> None:
        """Forget the file in a forked child: the mapping and the locks stayed with the parent."""
        if self._mapping is not None:
            sigbus_guard.unguard(self._mapping.address)
        self._held.clear()
        self._failed.end()
        self._waited.end()
        self._reset()

    def _renewed(self) -> None:
        """Let the file be opened again: this process has another slot. Words in its own memory stay."""
        if self.shared and not self._exclusive:
            self.close()

    def _reset(self) -> None:
        self.words: Words = memoryview(bytearray(8 * self._size)).cast("q")
        self._mapping: WritableMapping | None = None
        self._identity: tuple[int, int] | None = None
        self._exclusive = False
        self.detached()

    def _path(self) -> str:
        return f"{store.directory}/{self._file}"

    def _require_intact(self) -> None:
        """Start a state in the memory of this process where there is none."""
        if not self.intact():
            if self.shared:  # otherwise its words are new zeros already
                self.close()
            header = array("q", self.fresh())
            self.words[: len(header)] = memoryview(header)
            self.attached(lambda _byte: True)

    def _open_alone(self, name: str) -> bool:
        self._file = name
        fd = self._descriptor()
        try:
            # A file that was removed before it was locked is not in the directory any more.
            if not file_lock.try_lock(fd, _EDIT) or not os.fstat(fd).st_nlink:
                return False
            self._map(fd)
            return True
        except OSError:
            if not os.fstat(fd).st_size:  # on a full disk: nothing is in it, and no process could use it
                os.unlink(self._path())
            raise
        finally:
            os.close(fd)

    def _descriptor(self) -> int:
        store.acquire()  # a process that is not part of the run could have its file removed
        path = self._path()
        while True:
            try:
                fd = os.open(path, _FLAGS)
            except FileNotFoundError:
                with suppress(FileExistsError):
                    return file_owner.create(Path(path), 0o600)
                continue
            if stat.S_ISREG(os.fstat(fd).st_mode):
                return fd
            os.close(fd)
            raise OSError(0, "not a regular file. Remove it")

    def _lock(self, fd: int) -> None:
        """Wait for the process that edits. While that one is stopped, only one call a second waits."""
        if file_lock.try_lock(fd, _EDIT):
            return
        if self._waited.over:
            with suppress(TimeoutError):
                file_lock.lock(fd, _EDIT, patience=_PATIENCE_SECONDS)
                return
            self._waited.begin()
        message = f"{self._path()}: locked by another process for {_PATIENCE_SECONDS:g} s. Is that process stopped?"
        raise TimeoutError(message)

    def _map(self, fd: int) -> None:
        """Map the locked file, repaired if need be; nothing to do where it is mapped already."""
        found = os.fstat(fd)
        if found.st_size != 8 * self._size or not self.valid(memoryview(os.pread(fd, 8 * self._header, 0)).cast("q")):
            os.ftruncate(fd, 0)
            os.posix_fallocate(fd, 0, 8 * self._size)
            os.pwrite(fd, array("q", self.fresh()).tobytes(), 0)
            if found.st_size:
                self.damaged(self._path())
        if self._identity == (found.st_dev, found.st_ino) and self.intact():
            return
        self.close()
        mapping = WritableMapping(fd, 8 * self._size, self._file)
        sigbus_guard.guard(mapping.address, 8 * self._size)
        self._mapping, self._identity = mapping, (found.st_dev, found.st_ino)
        self.words = mapping.bytes.cast("q")
        self.attached(lambda byte: file_lock.try_lock(fd, _EDIT + 1 + byte))

    def _hold(self, byte: int) -> int | None:
        with suppress(OSError):  # the file was removed, or this process lacks descriptors or memory
            fd = os.open(self._path(), _FLAGS)
            try:
                return file_lock.hold(fd) if file_lock.try_lock(fd, _EDIT + 1 + byte) else None
            finally:
                os.close(fd)
        return None

    def _fail(self, error: OSError) -> None:
        """Go on in the memory of this process. TimeoutError where the file is good, and cannot be edited at the moment."""
        if isinstance(error, TimeoutError):
            raise error
        if self._mapping is not None:
            if error.errno in regular_file.LACKING:
                raise TimeoutError(f"{self._path()}: {error.strerror}") from error
            self.close()
        self._failed.begin()
        _problems.warn(f"{self._path()}: {error.strerror}. {self.subject} goes on without this file")
