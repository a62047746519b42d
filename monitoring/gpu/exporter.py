"""The devices as an exporter shows them beside the merged view: read every few seconds in a thread.

A scrape shows the newest reading, and nothing of a device that is not in it. Only in the first seconds of an exporter's life does a scrape
wait for the driver: an exporter that follows another one shows the same devices in its first answer.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING

from monitoring.catalogue import gpu_devices
from monitoring.catalogue.prefix import PREFIX

from . import process_memory
from .devices import REASONS, Reading
from .readings import Readings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

_FIRST_SECONDS = 2.0
_log = logging.getLogger("monitoring.gpu")


class Exported(threading.Thread):
    """The thread that reads the devices; `locate` returns the metrics directory, where workers find their shares."""

    def __init__(self, seconds: float, locate: Callable[[], Path]) -> None:
        """Read nothing before `start`."""
        super().__init__(name="metrics-gpu", daemon=True)
        self._seconds = seconds
        self._locate = locate
        self._readings = Readings(seconds)
        self._reading: Reading | None = None
        self._read = threading.Event()
        self._waited_for_until = time.monotonic() + _FIRST_SECONDS

    def run(self) -> None:
        while True:
            try:
                self._reading = self._readings.next()
                with contextlib.suppress(OSError, ValueError):  # the directory is missing, or this user may not write to it
                    process_memory.write(self._locate(), self._reading.devices)
            except Exception:  # noqa: BLE001 - no thread can be started, for example: the next round may succeed
                self._reading = None
                _log.exception("GPUs: reading failed. They are not shown until a reading succeeds")
            self._read.set()
            time.sleep(self._seconds)

    def collect(self) -> Iterator[Metric]:
        """Return every family of devices, with a series for each known value."""
        from prometheus_client.metrics_core import Metric

        if not self._read.is_set():
            self._read.wait(max(0.0, self._waited_for_until - time.monotonic()))
        reading = self._reading
        for family in gpu_devices.OF_DEVICES:
            metric = Metric(PREFIX + family.name, family.help, "gauge")
            for device in reading.devices if reading else ():
                if family.name in device.values:
                    metric.add_sample(metric.name, {"gpu": device.gpu, "uuid": device.uuid}, device.values[family.name])
            yield metric
        problems = Metric(PREFIX + gpu_devices.PROBLEMS.name, gpu_devices.PROBLEMS.help, "gauge")
        if reading:
            for reason in REASONS:
                problems.add_sample(problems.name, {"reason": reason}, float(reading.count(reason)))
        yield problems
