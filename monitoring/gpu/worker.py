"""The devices as workers show them: one elected worker reads them every few seconds, and each shows its own share of their memory."""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Any, Protocol

from monitoring.catalogue import gpu as families
from monitoring.multiprocess import Election, current_slot, metrics_directory

from . import process_memory
from .devices import REASONS, Reading
from .readings import Readings, patience

if TYPE_CHECKING:
    from collections.abc import Iterator

ROLE = "gpu"
_log = logging.getLogger("monitoring.gpu")


@contextlib.contextmanager
def watching(seconds: float, *, pids_match: bool | None = None, read: bool = True) -> Iterator[None]:
    """Read every `seconds` until the block ends, in a thread of each worker; with 0, never.

    `pids_match` is whether the driver knows workers by their own process ids; None finds out. Without `read` the exporter reads the
    devices, and no worker loads the driver's library.
    """
    if pids_match is None:
        pids_match = process_memory.pids_match()
    tasks: list[_Task] = ([_Devices(seconds)] if read else []) + ([_Share(seconds)] if pids_match else [])
    if not seconds or not tasks:
        yield
        return
    watch = Watch(seconds, tasks)
    watch.start()
    try:
        yield
    finally:
        watch.stop()


class _Task(Protocol):
    def turn(self) -> None:
        """Run once."""

    def end(self) -> None:
        """Stop."""


class Watch(threading.Thread):
    """The thread of one worker, which runs the tasks in turn."""

    def __init__(self, seconds: float, tasks: list[_Task]) -> None:
        super().__init__(name="metrics-gpu", daemon=True)
        self._seconds = seconds
        self._tasks = tasks
        self._stopping = threading.Event()

    def run(self) -> None:
        while True:
            for task in self._tasks:
                try:
                    task.turn()
                except Exception:  # noqa: BLE001 - a full disk, for example: the next round may succeed
                    _log.exception("GPUs: reading failed. They are not shown until a reading succeeds")
            if self._stopping.wait(self._seconds):
                return

    def stop(self) -> None:
        """End the thread and its tasks."""
        self._stopping.set()
        self.join(1.0)
        for task in self._tasks:
            task.end()


class _Devices:
    """Shows the devices while this worker is elected. When it ends, another worker is elected."""

    def __init__(self, seconds: float) -> None:
        self._election = Election(ROLE)
        self._readings = Readings(seconds)
        self._shown: set[tuple[str, tuple[str, ...]]] = set()

    def turn(self) -> None:
        if self._election.try_hold():
            self._show(self._readings.next())

    def end(self) -> None:
        self._election.release()

    def _show(self, reading: Reading) -> None:
        shown = {(family, (device.gpu, device.uuid)): value for device in reading.devices for family, value in device.values.items()}
        for family, labels in self._shown - shown.keys():
            _remove(getattr(families, family), labels)
        for (family, labels), value in shown.items():
            getattr(families, family).labels(*labels).set(value)
        self._shown = set(shown)
        for reason in REASONS:
            families.gpu_problems.labels(reason).set(reading.count(reason))
        if (directory := metrics_directory()) is not None:
            process_memory.write(directory, reading.devices)


class _Share:
    """Shows the memory that this worker itself uses."""

    def __init__(self, seconds: float) -> None:
        self._newest_seconds = patience(seconds) + 3 * seconds
        self._shown: set[tuple[str, ...]] = set()

    def turn(self) -> None:
        directory, slot = metrics_directory(), current_slot()
        if directory is None or slot is None:
            return
        found = {(*device, f"s{slot}"): size for device, size in process_memory.own(directory, self._newest_seconds).items()}
        for labels in self._shown - found.keys():
            _remove(families.gpu_process_memory_bytes, labels)
        for labels, size in found.items():
            families.gpu_process_memory_bytes.labels(*labels).set(size)
        self._shown = set(found)

    def end(self) -> None:
        """Leave the series: they end with the worker."""


def _remove(family: Any, labels: tuple[str, ...]) -> None:
    with contextlib.suppress(KeyError):
        family.remove(*labels)
