"""System Overview: the health of the service as its users see it, and its use of resources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring.grafana.dashboard import Dashboard, Section
from monitoring.grafana.panels import Panel, Query, figure, graph, latency
from monitoring.grafana.queries import WORKERS, share

if TYPE_CHECKING:
    from monitoring.grafana.queries import Queries

_REQUESTS = "neurectomy_http_requests_total"
_DURATION = "neurectomy_http_request_duration_seconds"
_FIRST_BYTE = "neurectomy_http_time_to_first_byte_seconds"
_FAILED = 'status=~"5.."'


def overview(queries: Queries) -> Dashboard:
    """Give it from top to bottom."""
    return Dashboard(
        "System Overview",
        "Requests, errors, latency and resources of the whole service. Health checks and scrapes are left out of the first three.",
        (
            Section("Now", (_now(queries), _objectives(queries))),
            Section("Requests", (_requests(queries),)),
            Section("Latency", (_latency(queries),)),
            Section("Bytes", (_bytes(queries),)),
            Section("Resources", (_state(queries), _resources(queries))),
        ),
    )


def _now(queries: Queries) -> tuple[Panel, ...]:
    settings, users = queries.configuration, queries.users
    failed, every = queries.rate(_REQUESTS, _FAILED, users), queries.rate(_REQUESTS, users)
    return (
        figure("Requests", "Finished requests of users per second, whatever their status.", "reqps", every),
        figure(
            "Errors",
            "Share of users' requests that the service failed (5xx).",
            "percentunit",
            share(failed, every),
            above=(round(1 - settings.availability_objective, 9), settings.error_ratio),
            alerts=("HighErrorRate", "ErrorBudgetBurnFast"),
        ),
        figure(
            "Latency, p95",
            "95% of users' requests are complete within this time, to the last byte.",
            "s",
            Query(queries.quantile(0.95, _DURATION, users), exemplar=True),
            above=(settings.latency_objective_seconds, settings.latency_seconds),
            alerts=("HighLatency",),
        ),
        figure(
            "In progress",
            "Requests whose response is not complete yet, in living workers.",
            "short",
            queries.total("neurectomy_http_requests_in_progress"),
        ),
    )


def _objectives(queries: Queries) -> tuple[Panel, ...]:
    settings, users = queries.configuration, queries.users
    failed, every = queries.gained(_REQUESTS, _FAILED, users), queries.gained(_REQUESTS, users)
    quick = queries.quick
    within = queries.gained(f"{_DURATION}_bucket", f'le="{settings.latency_objective_seconds:.1f}"', quick)
    return (
        figure(
            "Availability",
            f"Share of users' requests that did not fail, in the time shown; the objective is {settings.availability_objective:.1%}.",
            "percentunit",
            Query(f"1 - {share(failed, every)}", instant=True),
            below=(settings.availability_objective,),
            alerts=("ErrorBudgetBurnFast", "ErrorBudgetBurnSlow"),
        ),
        figure(
            f"Within {settings.latency_objective_seconds:g} s",
            f"Share of requests in the time shown that took at most {settings.latency_objective_seconds:g} s; the objective is"
            f" {settings.latency_objective:.0%}. Language models and agents, which are slow by nature, are left out.",
            "percentunit",
            Query(f"{within} / {queries.gained(f'{_DURATION}_count', quick)}", instant=True),
            below=(settings.latency_objective,),
            alerts=("LatencyBudgetBurnFast", "LatencyBudgetBurnSlow"),
        ),
        figure(
            "Failed requests",
            "Requests of users that were answered with 5xx in the time shown.",
            "short",
            Query(f"{failed} or 0 * {every}", instant=True),
        ),
        figure(
            "Version",
            "Version and environment that the newest worker of each instance names.",
            "none",
            Query(queries.greatest("neurectomy_system_info", by="version, environment"), "{{version}} ({{environment}})", instant=True),
            named=True,
        ),
    )


def _requests(queries: Queries) -> tuple[Panel, ...]:
    users, settings = queries.users, queries.configuration
    return (
        graph(
            "Requests by endpoint",
            "Finished requests of users per second, by the route's template.",
            "reqps",
            Query(queries.rate(_REQUESTS, users, by="endpoint"), "{{endpoint}}"),
            stacked=True,
        ),
        graph(
            "Requests by status",
            "Finished requests of users per second. 499 are clients that left before their answer was complete.",
            "reqps",
            Query(queries.rate(_REQUESTS, users, by="status"), "{{status}}"),
            stacked=True,
        ),
        graph(
            "Errors by endpoint",
            "Share of an endpoint's requests that the service failed (5xx); endpoints that never failed are not shown.",
            "percentunit",
            Query(
                f"{queries.rate(_REQUESTS, _FAILED, users, by='endpoint')} / {queries.rate(_REQUESTS, users, by='endpoint')}",
                "{{endpoint}}",
            ),
            above=(settings.error_ratio,),
            alerts=("HighErrorRate", "ErrorBudgetBurnFast", "ErrorBudgetBurnSlow"),
        ),
    )


def _latency(queries: Queries) -> tuple[Panel, ...]:
    users, settings = queries.users, queries.configuration
    bounds = (settings.latency_objective_seconds, settings.latency_seconds)
    return (
        latency(
            "Request duration",
            "Time to the last byte, over all endpoints of users: half of the requests, 95% and 99% are faster.",
            {f"p{part * 100:g}": queries.quantile(part, _DURATION, users) for part in (0.5, 0.95, 0.99)},
            above=bounds,
            alerts=("HighLatency", "LatencyBudgetBurnFast", "LatencyBudgetBurnSlow"),
        ),
        latency(
            "Request duration by endpoint, p95",
            "Time to the last byte that 95% of an endpoint's requests keep.",
            {"{{endpoint}}": queries.quantile(0.95, _DURATION, users, by="endpoint")},
            above=bounds,
            alerts=("HighLatency",),
        ),
        latency(
            "First byte by endpoint, p95",
            "Time to the start of the response that 95% of an endpoint's requests keep: streams start long before they end.",
            {"{{endpoint}}": queries.quantile(0.95, _FIRST_BYTE, users, by="endpoint")},
        ),
    )


def _bytes(queries: Queries) -> tuple[Panel, ...]:
    received, sent = "neurectomy_http_request_size_bytes", "neurectomy_http_response_size_bytes"
    return (
        graph(
            "Bodies",
            "Bytes of bodies per second that the application read and sent.",
            "Bps",
            Query(queries.rate(f"{received}_sum"), "received"),
            Query(queries.rate(f"{sent}_sum"), "sent"),
        ),
        graph(
            "Request size by endpoint, mean",
            "Bytes of a request's body that the application read.",
            "bytes",
            Query(queries.mean(received, queries.users, by="endpoint"), "{{endpoint}}"),
        ),
        graph(
            "Response size by endpoint, mean",
            "Bytes of a response's body that were sent.",
            "bytes",
            Query(queries.mean(sent, queries.users, by="endpoint"), "{{endpoint}}"),
        ),
    )


def _state(queries: Queries) -> tuple[Panel, ...]:
    workers = queries.greatest("multiproc_workers", by="instance")
    return (
        figure(
            "Instances",
            "Instances that Prometheus scrapes with success.",
            "short",
            f"count ({workers})",
            below=(1,),
            alerts=("MetricsTargetDown", "MetricsTargetMissing"),
        ),
        figure("Workers", "Living workers of all instances.", "short", f"sum ({workers})", below=(1,), alerts=("NoWorkers",)),
        figure("CPU", "Cores that all workers use.", "short", queries.rate("process_cpu_seconds_total", WORKERS)),
        figure(
            "Memory",
            "Resident memory of all workers; pages that they share are counted in each.",
            "bytes",
            queries.total("process_resident_memory_bytes", WORKERS),
        ),
    )


def _resources(queries: Queries) -> tuple[Panel, ...]:
    return (
        graph(
            "CPU by instance",
            "Cores that an instance's workers use.",
            "short",
            Query(queries.rate("process_cpu_seconds_total", WORKERS, by="instance"), "{{instance}}"),
            alerts=("PodCPUUsageHigh",),
        ),
        graph(
            "Memory by instance",
            "Resident memory of an instance's workers; pages that they share are counted in each.",
            "bytes",
            Query(queries.total("process_resident_memory_bytes", WORKERS, by="instance"), "{{instance}}"),
            alerts=("PodMemoryUsageHigh",),
        ),
        graph(
            "In progress by method",
            "Requests whose response is not complete yet, in living workers.",
            "short",
            Query(queries.total("neurectomy_http_requests_in_progress", by="method"), "{{method}}"),
        ),
    )
