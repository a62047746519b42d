"""GPUs: read once per instance and not once per worker. Several instances on one host show the same device: `max by (uuid)`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring.gpu import families

from .declaring import Rule, gauge

if TYPE_CHECKING:
    from prometheus_client import Gauge


def _one(family: families.Family) -> Gauge:
    return gauge(family.name, family.help, Rule.ONE, family.labels)


ryot_gpu_memory_usage_bytes = _one(families.MEMORY_USED)
gpu_memory_total_bytes = _one(families.MEMORY_TOTAL)
gpu_utilization_ratio = _one(families.UTILIZATION)
gpu_temperature_celsius = _one(families.TEMPERATURE)
gpu_power_watts = _one(families.POWER)
gpu_process_memory_bytes = gauge(
    "gpu_process_memory_bytes", "Memory of the device that a worker itself uses.", Rule.EACH, (*families.DEVICE, "worker")
)
gpu_problems = _one(families.PROBLEMS)
