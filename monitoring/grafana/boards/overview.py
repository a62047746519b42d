"""System Overview: the health of the service as its users see it, and its use of resources."""

from __future__ import annotations

from dataclasses import replace

from monitoring.grafana.dashboard import Dashboard, Rows
from monitoring.grafana.panels import figure, graph
from monitoring.grafana.queries import WORKERS, Queries, share

_REQUESTS = "neurectomy_http_requests_total"
_IN_PROGRESS = "neurectomy_http_requests_in_progress"
_DURATION = "neurectomy_http_request_duration_seconds"
_CPU, _MEMORY = "process_cpu_seconds_total", "process_resident_memory_bytes"
_FAILED = 'status=~"5.."'


def overview(ask: Queries) -> Dashboard:
    """Return the dashboard."""
    return Dashboard(
        "System Overview",
        "Requests, errors, latency and resources of the whole service. Health checks and scrapes are left out of the first three.",
        {"Now": _now(ask), "Requests": _requests(ask), "Latency": _latency(ask), "Bytes": _bytes(ask), "Resources": _resources(ask)},
    )


def _now(ask: Queries) -> Rows:
    settings, users, quick = ask.configuration, ask.users, ask.quick
    availability, bound = settings.availability_objective, settings.latency_objective_seconds
    every = ask.rate(_REQUESTS, users)
    yield {
        "Requests": figure("Finished requests of users per second, whatever their status.", every, unit="reqps"),
        "Errors": figure(
            "Share of users' requests that the service failed (5xx).",
            share(ask.rate(_REQUESTS, _FAILED, users), every),
            above=(round(1 - availability, 9), settings.error_ratio),
            alerts=("HighErrorRate", "ErrorBudgetBurnFast"),
        ),
        "Latency, p95": figure(
            "95% of users' requests are complete within this time, to the last byte.",
            ask.quantile(_DURATION, users),
            above=(bound, settings.latency_seconds),
            alerts=("HighLatency",),
        ),
        "In progress": figure("Requests whose response is not complete yet, in living workers.", ask.total(_IN_PROGRESS)),
    }
    failed, every = ask.gained(_REQUESTS, _FAILED, users), ask.gained(_REQUESTS, users)
    within = ask.gained(f"{_DURATION}_bucket", f'le="{bound:.1f}"', quick)
    version = ask.greatest("neurectomy_system_info", by="version, environment").named("{{version}} ({{environment}})")
    yield {
        "Availability": figure(
            f"Share of users' requests that did not fail, in the time shown; the objective is {availability:.1%}.",
            1 - share(failed, every),
            below=(availability,),
            alerts=("ErrorBudgetBurnFast", "ErrorBudgetBurnSlow"),
        ),
        f"Within {bound:g} s": figure(
            f"Share of requests in the time shown that took at most {bound:g} s; the objective is {settings.latency_objective:.0%}."
            " Language models and agents, which are slow by nature, are left out.",
            within / ask.gained(f"{_DURATION}_count", quick),
            below=(settings.latency_objective,),
            alerts=("LatencyBudgetBurnFast", "LatencyBudgetBurnSlow"),
        ),
        "Failed requests": figure("Requests of users that were answered with 5xx in the time shown.", failed | 0 * every),
        "Version": figure(
            "Version and environment that the newest worker of each instance names.",
            replace(version, instant=True),
            unit="none",
            named=True,
        ),
    }


def _requests(ask: Queries) -> Rows:
    by_endpoint, by_status = (ask.rate(_REQUESTS, ask.users, by=label) for label in ("endpoint", "status"))
    yield {
        "Requests by endpoint": graph(
            "Finished requests of users per second, by the route's template.", by_endpoint, unit="reqps", stacked=True
        ),
        "Requests by status": graph(
            "Finished requests of users per second. 499 are clients that left before their answer was complete.",
            by_status,
            unit="reqps",
            stacked=True,
        ),
        "Errors by endpoint": graph(
            "Share of an endpoint's requests that the service failed (5xx); endpoints that never failed are not shown.",
            ask.rate(_REQUESTS, _FAILED, ask.users, by="endpoint") / by_endpoint,
            above=(ask.configuration.error_ratio,),
            alerts=("HighErrorRate", "ErrorBudgetBurnFast", "ErrorBudgetBurnSlow"),
        ),
    }


def _latency(ask: Queries) -> Rows:
    bounds = (ask.configuration.latency_objective_seconds, ask.configuration.latency_seconds)
    yield {
        "Request duration": graph(
            "Time to the last byte, over all endpoints of users: half of the requests, 95% and 99% are faster.",
            *ask.quantiles(0.5, 0.95, 0.99, of=_DURATION, chosen=ask.users),
            above=bounds,
            alerts=("HighLatency", "LatencyBudgetBurnFast", "LatencyBudgetBurnSlow"),
        ),
        "Request duration by endpoint, p95": graph(
            "Time to the last byte that 95% of an endpoint's requests keep.",
            ask.quantile(_DURATION, ask.users, by="endpoint"),
            above=bounds,
            alerts=("HighLatency",),
        ),
        "First byte by endpoint, p95": graph(
            "Time to the start of the response that 95% of an endpoint's requests keep: streams start long before they end.",
            ask.quantile("neurectomy_http_time_to_first_byte_seconds", ask.users, by="endpoint"),
        ),
    }


def _bytes(ask: Queries) -> Rows:
    received, sent = "neurectomy_http_request_size_bytes", "neurectomy_http_response_size_bytes"
    yield {
        "Bodies": graph(
            "Bytes of bodies per second that the application read and sent.",
            ask.rate(f"{received}_sum").named("received"),
            ask.rate(f"{sent}_sum").named("sent"),
        ),
        "Request size by endpoint, mean": graph(
            "Bytes of a request's body that the application read.", ask.mean(received, ask.users, by="endpoint")
        ),
        "Response size by endpoint, mean": graph("Bytes of a response's body that were sent.", ask.mean(sent, ask.users, by="endpoint")),
    }


def _resources(ask: Queries) -> Rows:
    workers = ask.greatest("multiproc_workers", by="instance")
    yield {
        "Instances": figure(
            "Instances that Prometheus scrapes with success.",
            f"count ({workers})",
            below=(1,),
            alerts=("MetricsTargetDown", "MetricsTargetMissing"),
        ),
        "Workers": figure("Living workers of all instances.", f"sum ({workers})", below=(1,), alerts=("NoWorkers",)),
        "CPU": figure("Cores that all workers use.", ask.rate(_CPU, WORKERS)),
        "Memory": figure("Resident memory of all workers; pages that they share are counted in each.", ask.total(_MEMORY, WORKERS)),
    }
    yield {
        "CPU by instance": graph(
            "Cores that an instance's workers use.", ask.rate(_CPU, WORKERS, by="instance"), alerts=("PodCPUUsageHigh",)
        ),
        "Memory by instance": graph(
            "Resident memory of an instance's workers; pages that they share are counted in each.",
            ask.total(_MEMORY, WORKERS, by="instance"),
            alerts=("PodMemoryUsageHigh",),
        ),
        "In progress by method": graph(
            "Requests whose response is not complete yet, in living workers.", ask.total(_IN_PROGRESS, by="method")
        ),
    }
