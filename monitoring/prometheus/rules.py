"""The recording rules: the expressions that dashboards and alerts share, with instance and worker aggregated away.

Names are `level:metric:operations`: the labels that are kept, the family, the operations and their time.
"""

from __future__ import annotations

from typing import Any

from .configuration import Configuration, duration
from .promql import quantile, quick, rate, users

REQUESTS = "neurectomy_http_requests_total"
DURATION = "neurectomy_http_request_duration_seconds"
AVAILABILITY = "cluster_job:neurectomy_http_errors:ratio_rate{}"
LATENCY = "cluster_job:neurectomy_http_slow:ratio_rate{}"


def rules(configuration: Configuration) -> dict[str, Any]:
    """Return the content of rules.yml."""
    groups = {"overview": _overview(configuration), "objectives": _objectives(configuration)}
    return {
        "groups": [
            {"name": f"neurectomy-{name}", "rules": [{"record": record, "expr": expression} for record, expression in records.items()]}
            for name, records in groups.items()
        ]
    }


def failed(configuration: Configuration, seconds: float) -> str:
    """Return the share of users' requests that the service failed."""
    return f"({_errors(configuration, seconds)}) / {rate(configuration, REQUESTS, seconds, users(configuration))}"


def _errors(configuration: Configuration, seconds: float) -> str:
    every = rate(configuration, REQUESTS, seconds, users(configuration))
    # The first error makes the series. Until then the number of errors is 0, and not unknown.
    bad = rate(configuration, REQUESTS, seconds, 'status=~"5.."', users(configuration))
    return f"{bad} or 0 * {every}"


def _objectives(configuration: Configuration) -> dict[str, str]:
    times = configuration.times
    windows = sorted({*times.page_long, *times.page_short, *times.ticket_long, *times.ticket_short})
    shortest = windows[0]
    timed = rate(configuration, f"{DURATION}_count", shortest, quick(configuration))
    within = f'le="{configuration.latency_objective_seconds:.1f}"'
    good = rate(configuration, f"{DURATION}_bucket", shortest, within, quick(configuration))
    over = duration(shortest)
    counts = {
        f"cluster_job:neurectomy_http_requests:rate{over}": rate(configuration, REQUESTS, shortest, users(configuration)),
        f"cluster_job:neurectomy_http_errors:rate{over}": _errors(configuration, shortest),
        f"cluster_job:neurectomy_http_timed:rate{over}": timed,
        f"cluster_job:neurectomy_http_slow:rate{over}": f"{timed} - {good}",
    }
    requests, errors, measured, slow = counts
    ratios = {AVAILABILITY: (errors, requests), LATENCY: (slow, measured)}

    def over_time(record: str, seconds: float) -> str:
        # Of the instances' own series, three days of some hundred pods would be 10^8 samples at each evaluation.
        return record if seconds == shortest else f"avg_over_time({record}[{duration(seconds)}])"

    return counts | {
        name.format(duration(seconds)): f"{over_time(part, seconds)} / {over_time(whole, seconds)}"
        for seconds in windows
        for name, (part, whole) in ratios.items()
    }


def _overview(configuration: Configuration) -> dict[str, str]:
    errors, latency = configuration.times.errors, configuration.times.latency

    def rates(family: str, *labels: str) -> dict[str, str]:
        record = f"cluster_job_{'_'.join(labels)}:{family.removesuffix('_total')}:rate{duration(errors)}"
        return {record: rate(configuration, family, errors, by=", ".join(labels))}

    slowest = quantile(configuration, DURATION, latency, users(configuration), by="endpoint")
    return {
        **rates(REQUESTS, "endpoint", "status"),
        f"cluster_job_endpoint:{DURATION}:p95_{duration(latency)}": slowest,
        **rates("neurectomy_ryot_requests_total", "model", "status"),
        **rates("neurectomy_ryot_tokens_generated_total", "model"),
        **rates("neurectomy_sigmavault_operations_total", "operation", "status"),
    }
