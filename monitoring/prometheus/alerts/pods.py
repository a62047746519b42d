"""The seed's alerts on Kubernetes pods, from cAdvisor's families; limits also from kube-state-metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring.prometheus.configuration import duration

from .alert import WARNING, Alert

if TYPE_CHECKING:
    from monitoring.prometheus.configuration import Configuration

_BY = "cluster, namespace, pod, container"


def alerts(configuration: Configuration) -> list[Alert]:
    """Give both. A container without a limit has no share of one."""
    times, pods = configuration.times, configuration.pods
    cpu = f"sum by ({_BY}) (rate(container_cpu_usage_seconds_total{{{pods}}}[{duration(times.pod)}]))"
    quota = f"max by ({_BY}) (container_spec_cpu_quota{{{pods}}} / container_spec_cpu_period{{{pods}}})"
    memory = f"max by ({_BY}) (container_memory_working_set_bytes{{{pods}}})"
    limit = f"max by ({_BY}) (container_spec_memory_limit_bytes{{{pods}}} > 0)"
    return [
        Alert(
            "PodCPUUsageHigh",
            f"{cpu} / ({quota} or {_stated(configuration, 'cpu')}) > {configuration.pod_cpu_ratio:g}",
            WARNING,
            "{{ $labels.pod }} uses {{ $value | humanizePercentage }} of its CPU",
            "{{ $labels.container }} in {{ $labels.namespace }}/{{ $labels.pod }} uses {{ $value | humanizePercentage }}"
            f" of its CPU limit, more than {configuration.pod_cpu_ratio:.0%}.",
            lasting=times.pod_for,
        ),
        Alert(
            "PodMemoryUsageHigh",
            f"{memory} / ({limit} or {_stated(configuration, 'memory')}) > {configuration.pod_memory_ratio:g}",
            WARNING,
            "{{ $labels.pod }} uses {{ $value | humanizePercentage }} of its memory",
            "{{ $labels.container }} in {{ $labels.namespace }}/{{ $labels.pod }} uses {{ $value | humanizePercentage }}"
            f" of its memory limit, more than {configuration.pod_memory_ratio:.0%}.",
            lasting=times.pod_for,
        ),
    ]


def _stated(configuration: Configuration, resource: str) -> str:
    return f'max by ({_BY}) (kube_pod_container_resource_limits{{resource="{resource}",{configuration.pods}}})'
