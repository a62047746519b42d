"""Every threshold, selector and time of the rules, alerts and configurations, once."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RUNBOOKS = "https://github.com/neurectomy/neurectomy-monitoring/blob/main/docs/runbooks"
"""Where the pages of docs/runbooks are served; RUNBOOK_URL names another place."""

_SHORTEST_SECONDS = 0.2


class ConfigurationError(ValueError):
    """A value is not allowed. The message is one line with its name, its value and the allowed values."""


@dataclass(frozen=True)
class Times:
    """Every time in seconds; `faster` divides them all, so that tests need not wait for hours."""

    scrape: float = 15
    scrape_timeout: float = 10
    evaluation: float = 15

    errors: float = 300
    """Over which the seed's ratios are taken."""
    errors_for: float = 300
    latency: float = 300
    """Over which the seed's quantiles are taken."""
    latency_for: float = 600
    breaker_keep: float = 120
    """For which an open breaker keeps firing: it is half-open in between."""
    agent_for: float = 120
    pod: float = 300
    pod_for: float = 600

    kit_for: float = 300
    """For which a problem of the library itself must last."""
    refused: float = 900
    """For which refused series and observations keep firing."""
    storm: float = 900
    """Over which starts of workers are counted."""
    target_for: float = 120
    missing_for: float = 300

    page_long: tuple[float, ...] = (3600, 21_600)
    page_short: tuple[float, ...] = (300, 1800)
    page_for: float = 120
    ticket_long: tuple[float, ...] = (86_400, 259_200)
    ticket_short: tuple[float, ...] = (7200, 21_600)
    ticket_for: float = 900

    resend: float = 60
    """After which Prometheus sends a firing alert to Alertmanager again. An alert that was not sent for four times as long has ended."""
    group_wait: float = 30
    group_interval: float = 300
    repeat: float = 14_400
    watchdog_repeat: float = 300

    def faster(self, factor: float) -> Times:
        """Divide every time, to a fifth of a second at least."""

        def divided(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(max(_SHORTEST_SECONDS, each / factor) for each in value)
            return max(_SHORTEST_SECONDS, value / factor)

        return replace(self, **{each.name: divided(getattr(self, each.name)) for each in fields(self)})


@dataclass(frozen=True)
class Configuration:
    """All but the times. Ratios are from 0 to 1, latencies in seconds, sizes in bytes."""

    times: Times = field(default_factory=Times)

    job: str = "neurectomy"
    """The name of the scrape job."""
    targets: tuple[str, ...] = ("127.0.0.1:9464",)
    cadvisor: tuple[str, ...] = ()
    """Where the families of containers come from, outside Kubernetes; there its own Prometheus asks the kubelets."""
    cluster: str = "local"
    """The label that distinguishes deployments."""
    token_file: str = ""
    """Holds METRICS_TOKEN, where the service asks for one."""
    alertmanagers: tuple[str, ...] = ("127.0.0.1:9093",)
    prometheus: str = "127.0.0.1:9090"

    selector: str = ""
    """Chooses among services whose families have the same names, such as `namespace="neurectomy"`."""
    left_out: str = "/health/.*|/metrics"
    """Endpoints that no user calls, as a regular expression."""
    slow_by_nature: str = "/v1/completions|/v1/chat/completions|/v1/agents/.*"
    """Endpoints that the latency objective leaves out as well: language models and agents have alerts of their own."""
    pods: str = 'pod=~"neurectomy.*",container!="",container!="POD"'
    """Chooses the containers in cAdvisor's families."""
    roles: tuple[str, ...] = ("agents", "business")
    """Roles that one process of each instance holds at any time."""

    error_ratio: float = 0.05
    latency_seconds: float = 5
    ryot_error_ratio: float = 0.1
    ryot_latency_seconds: float = 30
    breaker_failure_ratio: float = 0.1
    pod_cpu_ratio: float = 0.8
    pod_memory_ratio: float = 0.85

    availability_objective: float = 0.999
    latency_objective: float = 0.99
    latency_objective_seconds: float = 1
    """Must be a bound of the family's buckets."""
    page_burns: tuple[float, ...] = (14.4, 6)
    """How many times faster than allowed the month's budget burns, for each of the times' pairs."""
    ticket_burns: tuple[float, ...] = (3, 1)

    directory_free_ratio: float = 0.2
    starts_per_worker: float = 3

    sample_limit: int = 100_000
    body_size_limit: str = "64MB"
    label_limit: int = 40
    label_value_length_limit: int = 512

    runbooks: str = RUNBOOKS
    webhook_url: str = ""
    """Where Alertmanager sends alerts; nowhere if empty."""
    watchdog_url: str = ""
    """Where the alert that always fires is sent. When it stops arriving, alerting is down."""

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Configuration:
        """Read the environment. ConfigurationError for a value that is not allowed."""
        found: dict[str, Any] = {
            name: read(variable, environ[variable]) for variable, (name, read) in _VARIABLES.items() if environ.get(variable)
        }
        return cls(**found)


def duration(seconds: float) -> str:
    """Return a time as Prometheus writes it, in its greatest whole unit."""
    milliseconds = round(seconds * 1000)
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


def _addresses(variable: str, text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(","))
    for each in found:
        host, colon, port = each.rpartition(":")
        if not (host and colon and port.isascii() and port.isdecimal() and 0 < int(port) < 65536) or not each.isprintable() or "/" in each:
            raise ConfigurationError(f"{variable}={text!r} is not allowed: it must be host:port, or several with commas between")
    return found


def _printable(variable: str, text: str) -> str:
    if not text.isprintable():
        raise ConfigurationError(f"{variable}={text!r} is not allowed: it must be printable")
    return text


def _url(variable: str, text: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or not all(" " < character < "\x7f" for character in text):
        raise ConfigurationError(f"{variable}=(hidden) is not allowed: it must be http://host/path or https://host/path")
    return text.rstrip("/") if variable == "RUNBOOK_URL" else text


_VARIABLES: dict[str, tuple[str, Callable[[str, str], object]]] = {
    "METRICS_TARGETS": ("targets", _addresses),
    "CADVISOR_TARGETS": ("cadvisor", _addresses),
    "ALERTMANAGERS": ("alertmanagers", _addresses),
    "CLUSTER": ("cluster", _printable),
    "METRICS_TOKEN_FILE": ("token_file", _printable),
    "RUNBOOK_URL": ("runbooks", _url),
    "ALERT_WEBHOOK_URL": ("webhook_url", _url),
    "ALERT_WATCHDOG_URL": ("watchdog_url", _url),
}
