"""The rows of GPUs. Instances on one host see the same devices: each is shown once, by its uuid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring.grafana.panels import graph

if TYPE_CHECKING:
    from monitoring.grafana.dashboard import Rows
    from monitoring.grafana.queries import Queries


def gpus(ask: Queries) -> Rows:
    """Return the rows, for the dashboard of services."""
    used, size, utilization, temperature, power = (
        ask.greatest(f"neurectomy_{family}", by="gpu, uuid").named("gpu {{gpu}} {{uuid}}")
        for family in (
            "ryot_gpu_memory_usage_bytes",
            "gpu_memory_total_bytes",
            "gpu_utilization_ratio",
            "gpu_temperature_celsius",
            "gpu_power_watts",
        )
    )
    yield {
        "Memory in use": graph(
            "Memory in use on a device, by all processes. Instances on one host see the same devices: each is shown once.", used
        ),
        "Share of memory in use": graph("Memory in use over all memory of the device.", used / size, above=(0.9, 0.97), most=1),
    }
    yield {
        "Utilization": graph("Share of the time in which a device computed.", utilization, most=1),
        "Temperature": graph("Temperature of a device; most slow down from about 85 °C on.", temperature, above=(85,)),
        "Power": graph("Power that a device draws.", power),
    }
    of_workers = ask.greatest("neurectomy_gpu_process_memory_bytes", by="instance, worker, gpu, uuid")
    yield {
        "Memory of workers": graph(
            "What a worker itself uses of a device; nothing where the driver does not know workers by their process ids.",
            of_workers.named("gpu {{gpu}}: {{worker}} on {{instance}}"),
        ),
        "What cannot be read": graph(
            "Devices, or questions to them, that give no answer, by reason: no_driver is a host without GPUs.",
            ask.greatest("neurectomy_gpu_problems", by="instance, reason"),
        ),
    }
