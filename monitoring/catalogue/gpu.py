"""GPUs, read once per instance, not once per worker. Several instances on one host show the same device: use `max by (uuid)`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import gpu_devices
from .declaration import Rule, gauge

if TYPE_CHECKING:
    from prometheus_client import Gauge


def _one(family: gpu_devices.Family) -> Gauge:
    return gauge(family.name, family.help, Rule.ONE, family.labels)


ryot_gpu_memory_usage_bytes = _one(gpu_devices.MEMORY_USED)
gpu_memory_total_bytes = _one(gpu_devices.MEMORY_TOTAL)
gpu_utilization_ratio = _one(gpu_devices.UTILIZATION)
gpu_temperature_celsius = _one(gpu_devices.TEMPERATURE)
gpu_power_watts = _one(gpu_devices.POWER)
gpu_process_memory_bytes = gauge(
    "gpu_process_memory_bytes", "Memory of the device that the worker uses.", Rule.EACH, (*gpu_devices.DEVICE, "worker")
)
gpu_problems = _one(gpu_devices.PROBLEMS)
