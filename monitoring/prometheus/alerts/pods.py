"""The seed's alerts on Kubernetes pods, from cAdvisor's families; limits also from kube-state-metrics."""

from __future__ import annotations

from monitoring.prometheus.configuration import Configuration, duration

from .alert import Alert

_BY = "cluster, namespace, pod, container"


def alerts(configuration: Configuration) -> dict[str, Alert]:
    """Return both by their names. A container without a limit has no share of one."""
    times, pods = configuration.times, configuration.pods
    cpu = f"sum by ({_BY}) (rate(container_cpu_usage_seconds_total{{{pods}}}[{duration(times.pod)}]))"
    quota = f"max by ({_BY}) (container_spec_cpu_quota{{{pods}}} / container_spec_cpu_period{{{pods}}})"
    memory = f"max by ({_BY}) (container_memory_working_set_bytes{{{pods}}})"
    limit = f"max by ({_BY}) (container_spec_memory_limit_bytes{{{pods}}} > 0)"

    def near(used: str, limit: str, most: float, resource: str, name: str) -> Alert:
        stated = f'max by ({_BY}) (kube_pod_container_resource_limits{{resource="{resource}",{pods}}})'
        return Alert(
            f"{used} / ({limit} or {stated}) > {most:g}",
            "{{ $labels.pod }} uses {{ $value | humanizePercentage }} of its " + name,
            "{{ $labels.container }} in {{ $labels.namespace }}/{{ $labels.pod }} uses {{ $value | humanizePercentage }}"
            f" of its {name} limit, more than {most:.0%}.",
            lasting=times.pod_for,
        )

    return {
        "PodCPUUsageHigh": near(cpu, quota, configuration.pod_cpu_ratio, "cpu", "CPU"),
        "PodMemoryUsageHigh": near(memory, limit, configuration.pod_memory_ratio, "memory", "memory"),
    }
