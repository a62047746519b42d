"""GPUs: read once per instance and not once per worker. Several instances on one host show the same device: `max by (uuid)`."""

from .declaring import Rule, gauge

_DEVICE = ("gpu", "uuid")

ryot_gpu_memory_usage_bytes = gauge("ryot_gpu_memory_usage_bytes", "Memory in use on the device, by whomever.", Rule.ONE, _DEVICE)
gpu_memory_total_bytes = gauge("gpu_memory_total_bytes", "Memory of the device.", Rule.ONE, _DEVICE)
gpu_utilization_ratio = gauge("gpu_utilization_ratio", "Share of the time in which the device computed, 0 to 1.", Rule.ONE, _DEVICE)
gpu_temperature_celsius = gauge("gpu_temperature_celsius", "Temperature of the device.", Rule.ONE, _DEVICE)
gpu_power_watts = gauge("gpu_power_watts", "Power that the device draws.", Rule.ONE, _DEVICE)
gpu_process_memory_bytes = gauge(
    "gpu_process_memory_bytes", "Memory of the device that a worker itself uses.", Rule.EACH, (*_DEVICE, "worker")
)
gpu_problems = gauge("gpu_problems", "What of the devices cannot be read, by reason; 0 for reasons that are none.", Rule.ONE, ("reason",))
