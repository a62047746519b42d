"""The slot of this process: takes the lease, owns the value files, and attaches values to them.

All of it is the slow path, under `fork.mutex`: a first write, a new series, a fork, a full disk. If a signal handler writes while its
thread is already inside the store, the write is queued until the outer call returns.
"""

from __future__ import annotations

import enum
import errno
import logging
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from monitoring.log_once import LogOnce
from monitoring.multiprocess.linux import fork
from monitoring.multiprocess.linux.hooks import Hooks
from monitoring.multiprocess.storage import declarations, paths, slot_lease
from monitoring.multiprocess.storage.library_families import DROPPED, DROPPED_REASONS
from monitoring.multiprocess.storage.value_file import ValueFile
from monitoring.retry_later import Pause

from .value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


#: Values that additions raise and lower: they are remembered while room is lacking. Of other values, only the refusal is counted.
_STATES = frozenset(f"gauge_{mode}" for mode in ("livesum", "sum", "all", "liveall", "livemin", "livemax"))
_TIMES = 3
_log = logging.getLogger(__name__)
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class Phase(enum.Enum):
    """The moments of a lease, in their order; functions are registered for them in `SlotStore.hooks`."""

    #: The lease follows another one of this process: let go of what belonged to the former slot.
    RENEWED = enum.auto()
    #: Values are about to be attached: follow what other workers have removed.
    TAKEN = enum.auto()
    #: Values are attached: write values that were kept in memory.
    ATTACHED = enum.auto()
    #: Everything is written: start the threads.
    READY = enum.auto()


class SlotStore:
    """One per process; `directory` is None until `install()`."""

    def __init__(self) -> None:
        self.directory: Path | None = None
        self.declared: dict[str, declarations.Family] = {}
        #: Functions to call when a lease is taken.
        self.hooks = Hooks(Phase)
        self._lease: slot_lease.Lease | None = None
        self._files: dict[str, ValueFile] = {}
        self._values: list[weakref.ref[Value]] = []
        self._prune_at = 1000
        self._collecting: list[Value] | None = None
        self._busy = False
        self._queued: list[tuple[Any, ...]] = []
        #: After the disk has refused room or a slot, and after it has refused a declaration.
        self._refused, self._silent = Pause(), Pause()
        #: Declarations that are not published yet. The others are not published again: that would undo those of a newer deploy.
        self._unpublished: dict[str, declarations.Family] = {}
        self.problems = LogOnce(_log)
        self._dropped: dict[str, Value] = {}
        self._dropped_in_memory: dict[str, float] = dict.fromkeys(DROPPED_REASONS, 0.0)
        #: The values of gauges that have no room, to be written with them later.
        self._owed: weakref.WeakKeyDictionary[Value, float] = weakref.WeakKeyDictionary()

    @property
    def held(self) -> slot_lease.Lease | None:
        """The lease of this process, if any."""
        return self._lease

    @property
    def slot(self) -> int | None:
        """The slot that this process holds, if any."""
        return self._lease.slot if self._lease else None

    def declare(self, family: declarations.Family) -> None:
        """Declare a family. It is published with the lease, or at once where one is held."""
        with fork.mutex:
            self.declared[family.name] = self._unpublished[family.name] = family
            if self._lease and not self._busy:
                with self._working():
                    self._publish()
                self._catch_up()

    def acquire(self) -> bool:
        """Take the lease unless it is held; return False where that fails. A failure is logged once, and later writes try again."""
        with fork.mutex:
            if self._lease or self._busy:
                return self._lease is not None
            with self._working():
                held = self._acquired()
            self._catch_up()
            return held

    def created(self, value: Value) -> None:
        """Attach a new value at once, where a lease is held and its series is shown before the first write."""
        with fork.mutex:
            if self._collecting is not None:
                self._collecting.append(value)
                return
            self._keep([value])
            if value.eager and self._lease and not self._busy:
                with self._working():
                    self._attach_new(value.group)
                self._catch_up()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Attach the values that are created within together or not at all: a histogram never has a sum without its buckets."""
        with fork.mutex:
            outer, self._collecting = self._collecting, []
            try:
                yield
            finally:
                group, self._collecting = self._collecting, outer
                references = [weakref.ref(value) for value in group]
                for value in group:
                    value.join(references)
                self._keep(group)
                if group and self._lease and not self._busy:
                    with self._working():
                        self._attach_new(group)
                    self._catch_up()

    def write(self, value: Value, operation: Callable[..., None], *arguments: Any) -> None:
        """Do `operation` once `value` is attached; refuse and count it where it cannot be."""
        with fork.mutex:
            if self._busy:
                self._queued.append((value, operation, *arguments))
                return
            self._write(value, operation, *arguments)
            self._catch_up()

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Queue the writes of this process's slow path, signal handlers included, while the files are edited."""
        with fork.mutex:
            with self._working():
                yield
            self._catch_up()

    def forget(self) -> None:
        """In a forked child: let go of the parent's slot and files. Every value takes the slow path at its next write."""
        for file in self._files.values():
            file.forget()
        self._files, self._lease, self._dropped = {}, None, {}
        self._dropped_in_memory = dict.fromkeys(DROPPED_REASONS, 0.0)
        self._owed.clear()
        self._busy, self._collecting, self._queued = False, None, []
        self._refused.end()
        self._silent.end()

    def renew(self, taken: slot_lease.Lease, *, again: bool) -> None:
        """Continue with another lease, and publish all families `again` if so. Within `undisturbed`; the old lease is released."""
        for file in self._files.values():
            file.close()
        self._lease, self._files, self._dropped = taken, {}, {}
        self._refused.end()
        if again:
            self._unpublished = dict(self.declared)
        self.hooks.call(Phase.RENEWED)
        self._publish()
        self._attach_all()

    def living_values(self) -> list[Value]:
        """Return every value that is still referenced."""
        return [value for reference in self._values if (value := reference()) is not None]

    def _write(self, value: Value, operation: Callable[..., None], *arguments: Any) -> None:
        with self._working():
            attached = value.attached or (self._acquired() and self._attach(value.group))
        if attached:
            operation(*arguments)
        else:
            self._drop(value)
            if value.prefix in _STATES:
                # Otherwise a later `dec()`, such as the end of a request whose start found no room, would make it negative.
                before = 0.0 if operation == value.set else self._owed.get(value, 0.0)
                self._owed[value] = before + float(arguments[0])

    def _acquired(self) -> bool:
        if self._lease:
            return True
        if self.directory is None or not self._refused.over:
            return False
        try:
            self._lease = _persisting(slot_lease.take, self.directory)
        except OSError as error:
            self._refused.begin(error)
            self.problems.warn(
                f"no slot in the metrics directory {self.directory}: {error}. Metrics of this process are lost until it has one"
            )
            return False
        self._publish()
        self._attach_all()
        return True

    def _publish(self) -> None:
        if not self._unpublished or self.directory is None or not self._silent.over:
            return
        try:
            _persisting(declarations.publish, self.directory, self._unpublished)
            self._unpublished = {}
        except OSError as error:
            self._silent.begin(error)
            self.problems.warn(f"family declarations could not be written to {self.directory}: {error}. It is tried again")

    @contextmanager
    def _working(self) -> Iterator[None]:
        outer, self._busy = self._busy, True
        try:
            yield
        finally:
            self._busy = outer

    def _catch_up(self) -> None:
        """Do the queued writes, once no operation is half done."""
        while self._queued and not self._busy:
            try:
                queued = self._queued.pop(0)
            except IndexError:
                return  # a signal handler did it in between
            self._write(*queued)

    def _attach(self, group: list[Value]) -> bool:
        """Attach a group of values; return False where room is lacking. The lease is held."""
        if not self._refused.over:
            return False
        try:
            if not self._dropped:
                _persisting(self._attach_dropped)
            for prefix in {value.prefix for value in group}:
                _persisting(self._attach_to, prefix, [value for value in group if value.prefix == prefix])
        except OSError as error:
            self._refused.begin(error)
            self.problems.warn(f"no room for new series in {self.directory}: {error}. Existing series continue")
            return False
        self._publish()
        return True

    def _attach_to(self, prefix: str, values: list[Value]) -> None:
        assert self._lease is not None
        assert self.directory is not None
        file = self._files.get(prefix)
        if file is None:
            file = self._files[prefix] = ValueFile(self.directory / paths.value_file(prefix, self._lease.slot), self._moved)
        for value, (view, index) in zip(values, file.ensure([value.key for value in values]), strict=True):
            value.attach(view, index)
            if owed := self._owed.pop(value, 0.0):
                value.inc(owed)

    def _attach_new(self, group: list[Value]) -> None:
        if self._attach(group):
            for value in group:
                value.revive()

    def _moved(self, file: ValueFile, ended: list[memoryview[float]]) -> None:
        """Move the values of a rewritten file. One whose sample was dropped gets a new sample at its next write."""
        gone = set(map(id, ended))
        for reference in self._values:
            value = reference()
            if value is not None and id(value._view) in gone and value.key in file.cells:
                value.move(*file.cells[value.key])

    def _keep(self, values: list[Value]) -> None:
        self._values.extend(map(weakref.ref, values))
        if len(self._values) > self._prune_at:
            self._prune()

    def _prune(self) -> None:
        """Forget values that are not referenced any more: label sets may come and go forever."""
        self._values = [reference for reference in self._values if reference() is not None]
        self._prune_at = 2 * len(self._values) + 1000

    def _attach_all(self) -> None:
        """With a new lease, attach the counter of refusals first, so that a disk that fills up later can be counted; then all values."""
        self.hooks.call(Phase.TAKEN)
        with self._working():
            self._attach([])
            self._prune()
            wanted = [value for value in self.living_values() if value.eager and not value.attached]
            if wanted and not self._attach(wanted):
                _log.warning(
                    "new series of slot %s wait for room in %s",
                    self._lease.slot if self._lease else "?",
                    self.directory,
                )
        self.hooks.call(Phase.ATTACHED)
        self.hooks.call(Phase.READY)

    def _attach_dropped(self) -> None:
        """Attach the counter of refusals, and add those from before it was attached. OSError where it has no room either."""
        own = [Value(*DROPPED.value(reason)) for reason in DROPPED_REASONS]
        self._attach_to("counter", own)
        self._dropped = dict(zip(DROPPED_REASONS, own, strict=True))
        for reason, count in self._dropped_in_memory.items():
            self._dropped[reason].inc(count)
            self._dropped_in_memory[reason] = 0.0

    def _drop(self, value: Value) -> None:
        if '_sum", ' in value.key and value.prefix in ("histogram", "summary"):
            return  # the same observation is counted with its bucket or count
        reason = "no_space" if self._lease else "no_slot"
        counter = self._dropped.get(reason)
        if counter is not None and counter.attached:
            counter.inc(1.0)
        else:
            self._dropped_in_memory[reason] += 1.0


def _persisting(do: Callable[_Arguments, _Result], *arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Result:
    """Do an operation again if one of its descriptors was closed by other code.

    Code that closes all descriptors may close one that the library is about to close as well: by then the number is another file's.
    """
    for _ in range(_TIMES):
        try:
            return do(*arguments, **named)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
    return do(*arguments, **named)


store = Value.owner = SlotStore()
fork.forget_in_child(store.forget, slot=True)
