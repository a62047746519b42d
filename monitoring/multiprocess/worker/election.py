"""One process of the instance for each role: whoever holds the role's byte of the lock file, which the kernel frees on any death.

There is no term and no message: candidates ask again every few seconds, so a role is taken over that long after its holder's end.
"""

from __future__ import annotations

import hashlib
import logging
import os
import weakref

from monitoring.log_once import LogOnce
from monitoring.multiprocess.linux import file_lock, fork
from monitoring.multiprocess.storage import lock_file

from . import worker_metrics
from .slot_store import Phase, store

_log = logging.getLogger(__name__)
_elections: weakref.WeakSet[Election] = weakref.WeakSet()


class Election:
    """The candidacy of this process for `role`, any string; processes that say the same string compete.

    Only a process that holds a slot can be elected, and it stays so until `release()` or its end; a forked child begins as a
    candidate. `multiproc_elected{role}` shows whether somebody is. Make it after `install()`. Ask from a background thread, not on
    an event loop: each question is a few system calls, and may wait for a lock that another thread holds meanwhile. Never raises.
    """

    def __init__(self, role: str) -> None:
        self.role = role
        digest = hashlib.blake2b(role.encode(), digest_size=5).digest()
        self._byte = lock_file.ROLES + int.from_bytes(digest, "big")
        self._shown = worker_metrics.elected(role)
        self._told: bool | None = None
        self._problems = LogOnce(_log)
        self._address: int | None = None
        _elections.add(self)
        store.hooks.add(Phase.RENEWED, self._stand_again)
        fork.forget_in_child(self._forget)

    @property
    def held(self) -> bool:
        """Whether this process holds the role."""
        return self._address is not None

    def try_hold(self) -> bool:
        """Take the role if nobody holds it; whether this process holds it now. Does not wait for the holder."""
        with fork.mutex:
            if self._address is None and store.slot is not None:
                try:
                    self._take()
                except OSError as error:
                    self._problems.warn(f"cannot stand for the role {self.role!r} in {store.directory}: {error}; tried again")
                self._tell()
            return self.held

    def release(self) -> None:
        """Give the role up, for the next candidate that asks; nothing where it is not held."""
        with fork.mutex:
            if self._address is not None:
                file_lock.drop(self._address)
                self._address = None
                self._tell()

    def vacant(self) -> bool:
        """Whether nobody, this process included, holds the role at the moment."""
        if store.directory is None:
            return True
        try:
            fd = lock_file.open_lock_file(store.directory, write=False)
        except OSError:
            return True
        try:
            return file_lock.holder(fd, self._byte) is None
        finally:
            os.close(fd)

    def _take(self) -> None:
        assert store.directory is not None
        fd = lock_file.open_lock_file(store.directory)
        try:
            if file_lock.try_lock(fd, self._byte):
                self._address = file_lock.hold(fd)
        finally:
            os.close(fd)

    def _tell(self) -> None:
        """Show it. Whoever was not elected shows 0, so that the series stays when the holder dies."""
        if self._told is not self.held:
            self._told = self.held
            self._shown.set(float(any(other.held for other in list(_elections) if other.role == self.role)))

    def _forget(self) -> None:
        """In a forked child: the role stayed with the parent, and so did the mapping."""
        self._address = self._told = None

    def _stand_again(self) -> None:
        """The lock file is another one: what was held in the old one is void."""
        if self._address is not None:
            file_lock.drop(self._address)
        self._forget()
