"""In an exporter: it reads the devices every few seconds in a thread, and shows them beside the merged view.

What a scrape shows is the newest reading, and nothing of a device that it does not have. No scrape waits for the driver, but in the first
seconds of the exporter's life: one that follows another is to say at once what that one said.
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
    """The devices as an exporter knows them; `locate` names the metrics directory, where workers find their shares."""

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
                with contextlib.suppress(OSError, ValueError):  # there is no directory yet, or it is not for us to write to
                    process_memory.write(self._locate(), self._reading.devices)
            except Exception:  # noqa: BLE001 - no thread can be started, say: the next round may do
                self._reading = None
                _log.exception("GPUs are not shown at the moment")
            self._read.set()
            time.sleep(self._seconds)

    def collect(self) -> Iterator[Metric]:
        """Give every family of devices, with a series for what is known."""
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
