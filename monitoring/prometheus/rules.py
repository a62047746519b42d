"""The recording rules: what dashboards and alerts ask for again and again, with instance and worker aggregated away.

Names are `level:metric:operations`: the labels that are kept, the family, what was done to it over which time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .configuration import duration
from .expressions import quantile, quick, rate, users

if TYPE_CHECKING:
    from .configuration import Configuration

REQUESTS = "neurectomy_http_requests_total"
DURATION = "neurectomy_http_request_duration_seconds"
AVAILABILITY = "cluster_job:neurectomy_http_errors:ratio_rate{}"
LATENCY = "cluster_job:neurectomy_http_slow:ratio_rate{}"


def rules(configuration: Configuration) -> dict[str, Any]:
    """Give the content of rules.yml."""
    times = configuration.times
    windows = sorted({*times.page_long, *times.page_short, *times.ticket_long, *times.ticket_short})
    return {
        "groups": [
            {"name": "neurectomy-overview", "rules": [_record(name, expression) for name, expression in _overview(configuration).items()]},
            {
                "name": "neurectomy-objectives",
                "rules": [
                    _record(name.format(duration(window)), expression(configuration, window))
                    for window in windows
                    for name, expression in ((AVAILABILITY, failed), (LATENCY, slow))
                ],
            },
        ]
    }


def failed(configuration: Configuration, seconds: float) -> str:
    """Give the share of users' requests that the service failed."""
    bad = rate(configuration, REQUESTS, seconds, 'status=~"5.."', users(configuration))
    every = rate(configuration, REQUESTS, seconds, users(configuration))
    # Without any error there is no series of one: the share is 0 then, and not unknown.
    return f"({bad} or 0 * {every}) / {every}"


def slow(configuration: Configuration, seconds: float) -> str:
    """Give the share of users' requests that took longer than the objective says."""
    within = f'le="{configuration.latency_objective_seconds:.1f}"'
    good = rate(configuration, f"{DURATION}_bucket", seconds, within, quick(configuration))
    every = rate(configuration, f"{DURATION}_count", seconds, quick(configuration))
    return f"1 - {good} / {every}"


def _overview(configuration: Configuration) -> dict[str, str]:
    errors, latency = configuration.times.errors, configuration.times.latency
    over, of = duration(errors), users(configuration)
    return {
        f"cluster_job_endpoint_status:neurectomy_http_requests:rate{over}": rate(configuration, REQUESTS, errors, by="endpoint, status"),
        f"cluster_job_endpoint:{DURATION}:p95_{duration(latency)}": quantile(configuration, DURATION, latency, of, by="endpoint"),
        f"cluster_job_model_status:neurectomy_ryot_requests:rate{over}": rate(
            configuration, "neurectomy_ryot_requests_total", errors, by="model, status"
        ),
        f"cluster_job_model:neurectomy_ryot_tokens_generated:rate{over}": rate(
            configuration, "neurectomy_ryot_tokens_generated_total", errors, by="model"
        ),
        f"cluster_job_operation_status:neurectomy_sigmavault_operations:rate{over}": rate(
            configuration, "neurectomy_sigmavault_operations_total", errors, by="operation, status"
        ),
    }


def _record(name: str, expression: str) -> dict[str, str]:
    return {"record": name, "expr": expression}
