"""A reading of all devices through NVML, which is loaded only where there is a driver. Unknown values are left out, with the reason.

NVML is `libnvidia-ml.so.1` as the dynamic linker finds it, so that LD_LIBRARY_PATH can select another one.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

LIBRARY = "libnvidia-ml.so.1"
#: The reasons why a value is unknown, as the label of a metric.
NO_DRIVER, NO_DEVICE, NO_PACKAGE, LOST, UNSUPPORTED, FAILED, STUCK = REASONS = (
    "no_driver",
    "no_device",
    "no_package",
    "lost",
    "unsupported",
    "failed",
    "stuck",
)
ABSENT = "there is no NVIDIA driver"
"""The start of a message that is no warning: most machines have no GPU."""

_MILLIWATTS = 1000.0
_PERCENT = 100.0


@dataclass
class Device:
    """One device: its known values by the name of the family, and the bytes of each process by process id."""

    gpu: str
    uuid: str
    values: dict[str, float] = field(default_factory=dict)
    processes: dict[int, int] = field(default_factory=dict)


@dataclass
class Reading:
    """All devices, and the problems: a reason and a sentence for each."""

    devices: list[Device] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)

    def count(self, reason: str) -> int:
        """Return the number of problems of this kind."""
        return sum(each == reason for each, _ in self.problems)


class Nvml:
    """The NVML library, loaded at the first reading, and again after a failure that concerned all devices. For one thread at a time."""

    def __init__(self) -> None:
        self._nvml: Any = None

    def read(self) -> Reading:
        """Read all devices. Never raises; takes as long as the driver does."""
        reading = Reading()
        nvml = self._nvml or self._load(reading)
        if nvml is None:
            return reading
        try:
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            self._unload(nvml)
            reading.problems.append((FAILED, f"the devices cannot be counted: {error}"))
            return reading
        if count == 0:
            reading.problems.append((NO_DEVICE, "the driver knows no device"))
        for index in range(count):
            self._read_device(nvml, index, reading)
        return reading

    def _load(self, reading: Reading) -> Any:
        try:
            ctypes.CDLL(LIBRARY)
        except OSError as error:
            reading.problems.append((NO_DRIVER, f"{ABSENT}: {error}"))
            return None
        try:
            import pynvml as nvml
        except ImportError:
            reading.problems.append((NO_PACKAGE, "there is a driver, but not the package nvidia-ml-py. Install the extra `gpu`"))
            return None
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            reading.problems.append((NO_DRIVER, f"the driver does not start: {error}"))
            return None
        self._nvml = nvml
        return nvml

    def _unload(self, nvml: Any) -> None:
        """Unload the library, so that the next reading loads it again: a driver that was reloaded needs that."""
        self._nvml = None
        try:
            nvml.nvmlShutdown()
        except nvml.NVMLError:
            return

    def _read_device(self, nvml: Any, index: int, reading: Reading) -> None:
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            device = Device(str(index), nvml.nvmlDeviceGetUUID(handle))
        except nvml.NVMLError as error:
            reading.problems.append((_reason(nvml, error), f"device {index}: {error}"))
            return

        def ask(what: str, question: Callable[[], Any]) -> Any:
            try:
                return question()
            except nvml.NVMLError as error:
                reason = _reason(nvml, error)
                reading.problems.append((reason, f"device {index} ({device.uuid}): {what}: {error}"))
                if reason == LOST:
                    raise
                return None

        try:
            for what, question in _QUESTIONS.items():
                device.values.update(ask(what, partial(question, nvml, handle)) or {})
            for each in ask("processes", lambda: nvml.nvmlDeviceGetComputeRunningProcesses(handle)) or []:
                if each.usedGpuMemory is not None:
                    device.processes[each.pid] = device.processes.get(each.pid, 0) + each.usedGpuMemory
        except nvml.NVMLError:
            return  # lost since the reading started: its values are not true any more
        reading.devices.append(device)


def _memory(nvml: Any, handle: Any) -> dict[str, float]:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return {"ryot_gpu_memory_usage_bytes": float(memory.used), "gpu_memory_total_bytes": float(memory.total)}


_QUESTIONS: dict[str, Callable[[Any, Any], dict[str, float]]] = {
    "memory": _memory,
    "utilization": lambda nvml, handle: {"gpu_utilization_ratio": nvml.nvmlDeviceGetUtilizationRates(handle).gpu / _PERCENT},
    "temperature": lambda nvml, handle: {
        "gpu_temperature_celsius": float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
    },
    "power": lambda nvml, handle: {"gpu_power_watts": nvml.nvmlDeviceGetPowerUsage(handle) / _MILLIWATTS},
}


def _reason(nvml: Any, error: Any) -> str:
    if error.value in {nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_NOT_FOUND, nvml.NVML_ERROR_RESET_REQUIRED}:
        return LOST
    if error.value in {nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND, nvml.NVML_ERROR_NO_PERMISSION}:
        return UNSUPPORTED
    return FAILED
