"""The row of GPUs. Instances on one host see the same devices: each is shown once, by its uuid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring.grafana.dashboard import Section
from monitoring.grafana.panels import Panel, Query, graph

if TYPE_CHECKING:
    from monitoring.grafana.queries import Queries

_DEVICE = "gpu {{gpu}} {{uuid}}"


def gpus(queries: Queries) -> Section:
    """Give it, for the dashboard of services."""
    return Section("GPUs", (_memory(queries), _state(queries), _rest(queries)))


def _memory(queries: Queries) -> tuple[Panel, ...]:
    used = queries.greatest("neurectomy_ryot_gpu_memory_usage_bytes", by="gpu, uuid")
    return (
        graph(
            "Memory in use",
            "Memory in use on a device, by all processes. Instances on one host see the same devices: each is shown once.",
            "bytes",
            Query(used, _DEVICE),
        ),
        graph(
            "Share of memory in use",
            "Memory in use over all memory of the device.",
            "percentunit",
            Query(f"{used} / {queries.greatest('neurectomy_gpu_memory_total_bytes', by='gpu, uuid')}", _DEVICE),
            above=(0.9, 0.97),
            most=1,
        ),
    )


def _state(queries: Queries) -> tuple[Panel, ...]:
    return (
        graph(
            "Utilization",
            "Share of the time in which a device computed.",
            "percentunit",
            Query(queries.greatest("neurectomy_gpu_utilization_ratio", by="gpu, uuid"), _DEVICE),
            most=1,
        ),
        graph(
            "Temperature",
            "Temperature of a device; most slow down from about 85 °C on.",
            "celsius",
            Query(queries.greatest("neurectomy_gpu_temperature_celsius", by="gpu, uuid"), _DEVICE),
            above=(85,),
        ),
        graph(
            "Power",
            "Power that a device draws.",
            "watt",
            Query(queries.greatest("neurectomy_gpu_power_watts", by="gpu, uuid"), _DEVICE),
        ),
    )


def _rest(queries: Queries) -> tuple[Panel, ...]:
    own = queries.greatest("neurectomy_gpu_process_memory_bytes", by="instance, worker, gpu, uuid")
    return (
        graph(
            "Memory of workers",
            "What a worker itself uses of a device; nothing where the driver does not know workers by their process ids.",
            "bytes",
            Query(own, "gpu {{gpu}}: {{worker}} on {{instance}}"),
        ),
        graph(
            "What cannot be read",
            "Devices, or questions to them, that give no answer, by reason: no_driver is a host without GPUs.",
            "short",
            Query(queries.greatest("neurectomy_gpu_problems", by="instance, reason"), "{{reason}} on {{instance}}"),
        ),
    )
