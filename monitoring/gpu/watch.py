"""One process of the instance reads the devices every few seconds, each worker finds its own share in what that one says."""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Any

from monitoring import metrics
from monitoring.multiprocess.election import Election
from monitoring.multiprocess.store import store

from . import shares
from .devices import ABSENT, REASONS, STUCK, Nvml, Reading

if TYPE_CHECKING:
    from collections.abc import Iterator

ROLE = "gpu"
_STUCK_AFTER_SECONDS = 10.0
_MOST_TOLD = 100
_log = logging.getLogger("monitoring.gpu")


@contextlib.contextmanager
def watching(seconds: float, *, pids_match: bool | None = None) -> Iterator[None]:
    """Read every `seconds` until the block ends, in a thread of each worker; with 0, never.

    `pids_match` says whether the driver knows workers by their own process ids; None finds out.
    """
    if not seconds:
        yield
        return
    watch = Watch(seconds, shares.pids_match() if pids_match is None else pids_match)
    watch.start()
    try:
        yield
    finally:
        watch.stop()


class Watch(threading.Thread):
    """The thread of one worker."""

    def __init__(self, seconds: float, pids_match: bool) -> None:
        super().__init__(name="metrics-gpu", daemon=True)
        self._seconds = seconds
        self._pids_match = pids_match
        self._stopping = threading.Event()
        self._election = Election(ROLE)
        self._nvml = Nvml()
        self._reader: _Reader | None = None
        self._shown: set[tuple[str, tuple[str, ...]]] = set()
        self._shares: set[tuple[str, ...]] = set()
        self._told: set[str] = set()

    def run(self) -> None:
        while True:
            try:
                if self._election.try_hold():
                    self._show(self._read())
                self._show_own_share()
            except Exception:  # noqa: BLE001 - a full disk, say: the next round may do
                _log.exception("GPUs are not shown at the moment")
            if self._stopping.wait(self._seconds):
                return

    def stop(self) -> None:
        """End it, and leave the role to another."""
        self._stopping.set()
        self.join(1.0)
        self._election.release()

    def _read(self) -> Reading:
        """Read in another thread: a driver that hangs must not keep what was true once on show."""
        if self._reader is None:
            self._reader = _Reader(self._nvml)
            self._reader.start()
        self._reader.join(max(_STUCK_AFTER_SECONDS, 2 * self._seconds))
        if self._reader.is_alive():
            return Reading(problems=[(STUCK, "the driver does not answer")])
        reading, self._reader = self._reader.reading, None
        return reading

    def _show(self, reading: Reading) -> None:
        shown = {(family, (device.gpu, device.uuid)): value for device in reading.devices for family, value in device.values.items()}
        for family, labels in self._shown - shown.keys():
            _remove(getattr(metrics, family), labels)
        for (family, labels), value in shown.items():
            getattr(metrics, family).labels(*labels).set(value)
        self._shown = set(shown)
        for reason in REASONS:
            metrics.gpu_problems.labels(reason).set(sum(each == reason for each, _ in reading.problems))
        said = {text for _, text in reading.problems}
        for text in sorted(said - self._told)[:_MOST_TOLD]:
            _log.log(logging.INFO if text.startswith(ABSENT) else logging.WARNING, "GPUs: %s", text)
        self._told = said
        if store.directory is not None and (reading.devices or (store.directory / shares.NAME).exists()):
            shares.write(store.directory, reading.devices)

    def _show_own_share(self) -> None:
        if store.directory is None or store.slot is None or not self._pids_match:
            return
        worker = f"s{store.slot}"
        found = {(*device, worker): size for device, size in shares.own(store.directory, 3 * self._seconds + _STUCK_AFTER_SECONDS).items()}
        for labels in self._shares - found.keys():
            _remove(metrics.gpu_process_memory_bytes, labels)
        for labels, size in found.items():
            metrics.gpu_process_memory_bytes.labels(*labels).set(size)
        self._shares = set(found)


class _Reader(threading.Thread):
    """One reading."""

    def __init__(self, nvml: Nvml) -> None:
        super().__init__(name="metrics-gpu-reader", daemon=True)
        self._nvml = nvml
        self.reading = Reading()

    def run(self) -> None:
        self.reading = self._nvml.read()


def _remove(family: Any, labels: tuple[str, ...]) -> None:  # noqa: ANN401 - a gauge
    with contextlib.suppress(KeyError):
        family.remove(*labels)
