"""Names, labels and HELP of the families of GPUs. A worker declares them in the catalogue; an exporter shows them without it."""

from __future__ import annotations

from typing import NamedTuple

DEVICE = ("gpu", "uuid")


class Family(NamedTuple):
    """A gauge; its exposed name starts with `prefix.PREFIX`."""

    name: str
    help: str
    labels: tuple[str, ...]


MEMORY_USED = Family("ryot_gpu_memory_usage_bytes", "Memory in use on the device, by all processes.", DEVICE)
MEMORY_TOTAL = Family("gpu_memory_total_bytes", "Memory of the device.", DEVICE)
UTILIZATION = Family("gpu_utilization_ratio", "Share of time during which the device computed, 0 to 1.", DEVICE)
TEMPERATURE = Family("gpu_temperature_celsius", "Temperature of the device.", DEVICE)
POWER = Family("gpu_power_watts", "Power that the device draws.", DEVICE)
PROBLEMS = Family("gpu_problems", "Values of the devices that cannot be read, by reason; 0 for a reason that does not apply.", ("reason",))

OF_DEVICES = (MEMORY_USED, MEMORY_TOTAL, UTILIZATION, TEMPERATURE, POWER)
