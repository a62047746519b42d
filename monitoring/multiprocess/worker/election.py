"""Elections: of all processes of an instance, at most one holds a role, by a lock on the role's byte of the lock file.

The kernel frees the lock on any death. Without terms or messages: candidates ask again every few seconds, so a role is taken
over that long after the end of its holder.
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
    """The candidacy of this process for `role`, any string; processes with the same role compete.

    Only a process that holds a slot can be elected. It holds the role until `release()` or its end; a forked child starts as a
    candidate. `multiproc_elected{role}` shows whether a process is elected. Create it after `install()`. Ask from a background thread,
    not on an event loop: each question is a few system calls, and may wait for a lock of another thread. Never raises.
    """

    def __init__(self, role: str) -> None:
        self.role = role
        digest = hashlib.blake2b(role.encode(), digest_size=5).digest()
        self._byte = lock_file.ROLES + int.from_bytes(digest, "big")
        self._value = worker_metrics.elected(role)
        self._last_shown: bool | None = None
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
        """Take the role if no process holds it, without waiting; return whether this process holds it now."""
        with fork.mutex:
            if self._address is None and store.slot is not None:
                try:
                    self._take()
                except OSError as error:
                    self._problems.warn(f"role {self.role!r}: cannot be taken in {store.directory}: {error}. It is tried again")
                self._show()
            return self.held

    def release(self) -> None:
        """Release the role for the next candidate that asks; nothing to do where it is not held."""
        with fork.mutex:
            if self._address is not None:
                file_lock.drop(self._address)
                self._address = None
                self._show()

    def vacant(self) -> bool:
        """Return whether no process, this one included, holds the role at the moment."""
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

    def _show(self) -> None:
        """Write `multiproc_elected`. A process that was not elected writes 0, so that the series stays when the holder dies."""
        if self._last_shown is not self.held:
            self._last_shown = self.held
            self._value.set(float(any(other.held for other in list(_elections) if other.role == self.role)))

    def _forget(self) -> None:
        """In a forked child: the role and the mapping stayed with the parent."""
        self._address = self._last_shown = None

    def _stand_again(self) -> None:
        """Become a candidate again: the lock file is another one, so a role that was held in the old one is void."""
        if self._address is not None:
            file_lock.drop(self._address)
        self._forget()
