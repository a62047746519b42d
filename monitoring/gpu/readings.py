"""Readings of the devices, one after another, with a bound on the wait for each. Each new problem is logged once."""

from __future__ import annotations

import logging
import threading

from monitoring.log_once import LogOnce

from .devices import ABSENT, FAILED, STUCK, Nvml, Reading

_STUCK_PERIODS = 3
_STUCK_AT_LEAST_SECONDS = 5.0
_log = logging.getLogger("monitoring.gpu")


def patience(seconds: float) -> float:
    """Return the seconds after which a driver that is asked every `seconds` counts as stuck."""
    return max(_STUCK_AT_LEAST_SECONDS, _STUCK_PERIODS * seconds)


class Readings:
    """The readings of one process, every `seconds`. For one thread at a time."""

    def __init__(self, seconds: float) -> None:
        self._patience = patience(seconds)
        self._nvml = Nvml()
        self._reader: _Reader | None = None
        self._problems = LogOnce(_log)

    def next(self) -> Reading:
        """Read in another thread, which a driver that hangs may keep: then the devices are unknown, and their last values are not shown."""
        if self._reader is None:
            reader = _Reader(self._nvml)
            reader.start()
            self._reader = reader
        self._reader.join(self._patience)
        if self._reader.is_alive():
            reading = Reading(problems=[(STUCK, "the driver does not answer")])
        else:
            reading, self._reader = self._reader.reading, None
        self._report({text for _, text in reading.problems})
        return reading

    def _report(self, problems: set[str]) -> None:
        self._problems.clear(but=problems)
        for text in sorted(problems):
            self._problems.warn(f"GPUs: {text}", text, logging.INFO if text.startswith(ABSENT) else logging.WARNING)


class _Reader(threading.Thread):
    """One reading."""

    def __init__(self, nvml: Nvml) -> None:
        super().__init__(name="metrics-gpu-reader", daemon=True)
        self._nvml = nvml
        self.reading = Reading()

    def run(self) -> None:
        try:
            self.reading = self._nvml.read()
        except Exception as error:  # noqa: BLE001 - the driver's answer may not be text, and the library may lack a function
            self.reading = Reading(problems=[(FAILED, f"the driver's answer is not understood: {error!r}")])
