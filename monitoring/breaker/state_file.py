"""The file of a breaker, mapped by each worker: who may change it, and what becomes of it when it is damaged, or cannot be had.

A worker that dies gives back what it held, since all of it hangs on locks of open files: the right to change the state, its region,
the right to probe. Where there is no metrics directory, or its disk is full, the state is this process's own.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import threading
import time
import weakref
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from monitoring.multiprocess import paths
from monitoring.multiprocess.linux import file_owner, readonly_mapping, regular_file
from monitoring.multiprocess.linux.writable_mapping import Mapping
from monitoring.multiprocess.storage import lock_file
from monitoring.multiprocess.worker.slot_store import store

from . import state_layout as layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Bytes of the file that are locked, far behind its end: to change the state, to probe, and one for each region.
_EDIT, _PROBE, _REGION = 1 << 40, (1 << 40) + 1, (1 << 40) + 16
_PATIENCE_SECONDS = 0.1
_AGAIN_SECONDS = 1.0
_log = logging.getLogger("monitoring.breaker")
_all: weakref.WeakSet[Shared] = weakref.WeakSet()


class Shared:
    """The state of one service's breaker, opened at its first use by each process."""

    def __init__(self, service: str, rebuilt: Callable[[], None]) -> None:
        self._service = service
        self._rebuilt = rebuilt
        self._name = paths.state_file(f"breaker-{hashlib.blake2b(service.encode(), digest_size=8).hexdigest()}")
        #: Held by a thread that counts in the region. A signal handler may call through the breaker while its own thread is in there.
        self.counting = threading.RLock()
        #: What this process saw of it last: a generation that was never there before follows damage.
        self._generation = 0
        self._told: set[str] = set()
        self._detach()
        _all.add(self)

    def _detach(self) -> None:
        """Without a file: at first, in a forked child, where the directory is another one."""
        #: Never equal to the state that somebody has seen, so that whoever has looks closer.
        self.words: layout.Words = memoryview(bytearray(layout.SIZE)).cast("q")
        self.region = layout.region_at(0)
        #: The region is nobody else's.
        self.own_region = False
        self._mapping: Mapping | None = None
        self._identity: tuple[int, int] | None = None
        self._again_at = self._patient_at = 0.0
        self._probing = False

    def record(self, key: int, failures: int) -> None:
        """Count a call in the bucket of this key."""
        with self.counting:
            if self.own_region:
                layout.record(self.words, self.region, key, failures)
                return
        with self.editing():
            self.record_here(key, failures)

    def record_here(self, key: int, failures: int) -> None:
        """As `record`, where nobody else edits."""
        with self.counting:
            layout.record(self.words, self.region, key, failures)

    @contextmanager
    def editing(self) -> Iterator[layout.Words]:
        """Give the words, found good, to this process alone. TimeoutError where another has them too long, or descriptors are lacking.

        It may stand in an event loop: it does not wait for longer than a tenth of a second.
        """
        with lock_file.mutex:
            fd = self._open()
            try:
                self._settled()
                yield self.words
                self._generation = layout.generation_of(self.words[layout.CURRENT])
            finally:
                if fd is not None:
                    os.close(fd)

    def try_probe(self) -> int | None:
        """Take the right to probe, which one call of all processes has at a time; what to give back, None where another has it."""
        with lock_file.mutex:
            if self._mapping is None:
                if self._probing:
                    return None
                self._probing = True
                return 0
            try:
                fd = os.open(self._path(), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            except OSError:
                return None  # no descriptors
            try:
                return lock_file.hold(fd) if lock_file.try_lock(fd, _PROBE) else None
            except OSError:
                return None  # no memory
            finally:
                os.close(fd)

    def end_probe(self, held: int) -> None:
        """Give the right to probe back; not in a child that was forked meanwhile, which does not have it."""
        with lock_file.mutex:
            if held:
                lock_file.drop(held)
            else:
                self._probing = False

    def _path(self) -> str:
        assert store.directory is not None
        return str(store.directory / self._name)

    def _open(self) -> int | None:
        """Lock the file, mapped and good; give what keeps the lock, None where there is no file to be had."""
        if store.directory is None:
            if not self.words[layout.CURRENT]:
                self._begin_alone()
            return None
        if self._mapping is None and time.monotonic() < self._again_at:
            return None
        store.acquire()  # whoever takes part in no run might have the file cleared away
        try:
            return self._locked()
        except TimeoutError:
            raise
        except OSError as error:
            if self._mapping is not None and error.errno in regular_file.LACKING:
                raise TimeoutError(f"{self._path()}: {error.strerror}") from error
            if self._mapping is not None or not layout.valid(self.words):
                self.forget()
                self._begin_alone()
            self._tell(f"the breaker of {self._service!r} is not shared with other workers: {self._path()}: {error.strerror}")
            self._again_at = time.monotonic() + _AGAIN_SECONDS
            return None

    def _locked(self) -> int:
        fd = self._opened()
        try:
            found = os.fstat(fd)
            _require_file(found.st_mode)
            self._lock(fd)
            if found.st_size != layout.SIZE or not layout.valid(self._header(fd)):
                self._make(fd)
            if self._identity != (found.st_dev, found.st_ino) or not layout.valid(self.words) or not self._sees_its_region():
                self._map(fd)
                self._identity = (found.st_dev, found.st_ino)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _opened(self) -> int:
        while True:
            try:
                return os.open(self._path(), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            except FileNotFoundError:
                with suppress(FileExistsError):
                    return file_owner.create(Path(self._path()), 0o600)

    def _lock(self, fd: int) -> None:
        """Wait for who edits, once: while that one is stopped nobody else's calls shall wait again and again."""
        if not lock_file.try_lock(fd, _EDIT):
            message = f"{self._path()} has been locked by another process for {_PATIENCE_SECONDS:g} s; is that process stopped?"
            if time.monotonic() < self._patient_at:
                raise TimeoutError(message)
            try:
                lock_file.lock(fd, _EDIT, patience=_PATIENCE_SECONDS)
            except TimeoutError as error:
                self._patient_at = time.monotonic() + _AGAIN_SECONDS
                raise TimeoutError(message) from error

    def _header(self, fd: int) -> layout.Words:
        return memoryview(os.pread(fd, 8 * layout.HEADER_WORDS, 0)).cast("q")

    def _make(self, fd: int) -> None:
        """Make a closed breaker of a file that is new, or was damaged."""
        damaged = os.fstat(fd).st_size > 0
        os.ftruncate(fd, 0)
        os.posix_fallocate(fd, 0, layout.SIZE)
        os.pwrite(fd, layout.fresh(self._generation + 1), 0)
        if damaged:
            _log.warning("%s, the state of the breaker of %r, was damaged; the breaker is closed", self._path(), self._service)
            self._rebuilt()

    def _map(self, fd: int) -> None:
        """Map the file, with a region that is kept by the lock of its byte for as long as the mapping lives."""
        self.forget()
        holding = os.open(self._path(), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if os.fstat(holding).st_ino != os.fstat(fd).st_ino:
                raise OSError(0, "another process replaced it at this moment")
            number = next((number for number in range(1, layout.REGIONS) if lock_file.try_lock(holding, _REGION + number)), 0)
            mapping = Mapping(holding, layout.SIZE, self._path())
        finally:
            os.close(holding)
        readonly_mapping.guard(mapping.address, layout.SIZE)
        self._mapping, self.words = mapping, mapping.bytes.cast("q")
        self.region, self.own_region = layout.region_at(number), number > 0
        self.words[self.region + layout.REGION_MARK] = layout.MAGIC
        self.words[layout.REGIONS_USED] = max(self.words[layout.REGIONS_USED], number)

    def _sees_its_region(self) -> bool:
        """Whether what this process counts is in the file: pages that were lost once are zeros that nobody else sees."""
        return self.words[self.region + layout.REGION_MARK] == layout.MAGIC

    def _begin_alone(self) -> None:
        self.own_region = True
        self.words[: layout.HEADER_WORDS] = memoryview(layout.fresh(self._generation + 1)).cast("q")

    def _settled(self) -> None:
        if not layout.valid(self.words):
            self._begin_alone()
        layout.settle(self.words)

    def forget(self) -> None:
        """Let go of the file."""
        with self.counting:
            mapping, words = self._mapping, self.words
            self._detach()
            if mapping is not None:
                words.release()
                readonly_mapping.unguard(mapping.address)
                mapping.unmap()

    def forget_forked(self) -> None:
        """In a forked child: the mapping, the region and the right to probe stayed with the parent."""
        self.counting = threading.RLock()
        if self._mapping is not None:
            readonly_mapping.unguard(self._mapping.address)
        self._detach()

    def _tell(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            _log.warning("%s", message)


def _require_file(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise OSError(0, "it is no file; remove it")


def _forget_all() -> None:
    for shared in list(_all):
        shared.forget()


def _forget_forked() -> None:
    for shared in list(_all):
        shared.forget_forked()


store.on_renewal.append(_forget_all)
os.register_at_fork(after_in_child=_forget_forked)
