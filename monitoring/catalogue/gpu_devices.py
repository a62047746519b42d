"""What is shown of devices, in words: workers declare it in the catalogue, an exporter shows it without one."""

from __future__ import annotations

from typing import NamedTuple

DEVICE = ("gpu", "uuid")


class Family(NamedTuple):
    """A gauge; its exposed name begins with `monitoring.catalogue.prefix.PREFIX`."""

    name: str
    help: str
    labels: tuple[str, ...]


MEMORY_USED = Family("ryot_gpu_memory_usage_bytes", "Memory in use on the device, by whomever.", DEVICE)
MEMORY_TOTAL = Family("gpu_memory_total_bytes", "Memory of the device.", DEVICE)
UTILIZATION = Family("gpu_utilization_ratio", "Share of the time in which the device computed, 0 to 1.", DEVICE)
TEMPERATURE = Family("gpu_temperature_celsius", "Temperature of the device.", DEVICE)
POWER = Family("gpu_power_watts", "Power that the device draws.", DEVICE)
PROBLEMS = Family("gpu_problems", "What of the devices cannot be read, by reason; 0 for reasons that are none.", ("reason",))

OF_DEVICES = (MEMORY_USED, MEMORY_TOTAL, UTILIZATION, TEMPERATURE, POWER)
