"""The pieces of PromQL that panels share: every family is asked for by the dashboard's variables, every rate over Grafana's own window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring.prometheus import promql

if TYPE_CHECKING:
    from monitoring.prometheus import Configuration

WINDOW = "$__rate_interval"
SHOWN = "$__range"
"""The time range that the dashboard shows."""
WORKERS = 'worker!=""'
"""Of `process_*`: not Prometheus itself, nor Alertmanager, which have families of the same names."""


class Queries:
    """Makes expressions. `by` names labels, `chosen` are matchers."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        #: The endpoints that are users': neither health checks nor scrapes.
        self.users = promql.users(configuration)
        #: Those of them that the latency objective is about.
        self.quick = promql.quick(configuration)

    def of(self, family: str, *chosen: str) -> str:
        """Choose the series of a family."""
        return family + promql.matchers('cluster=~"$cluster"', 'instance=~"$instance"', self.configuration.selector, *chosen)

    def rate(self, family: str, *chosen: str, by: str = "", over: str = WINDOW) -> str:
        """Return the increase of a counter per second, summed."""
        return f"{_aggregated('sum', by)} (rate({self.of(family, *chosen)}[{over}]))"

    def gained(self, family: str, *chosen: str, by: str = "", over: str = SHOWN) -> str:
        """Return the increase of a counter over a time, summed."""
        return f"{_aggregated('sum', by)} (increase({self.of(family, *chosen)}[{over}]))"

    def quantile(self, quantile: float, family: str, *chosen: str, by: str = "") -> str:
        """Return a quantile of a histogram."""
        labels = f"{by}, le" if by else "le"
        return f"histogram_quantile({quantile:g}, {self.rate(f'{family}_bucket', *chosen, by=labels)})"

    def mean(self, family: str, *chosen: str, by: str = "") -> str:
        """Return the mean of a histogram's observations."""
        return f"{self.rate(f'{family}_sum', *chosen, by=by)} / {self.rate(f'{family}_count', *chosen, by=by)}"

    def total(self, family: str, *chosen: str, by: str = "") -> str:
        """Add up a gauge of which each instance has its own part."""
        return f"{_aggregated('sum', by)} ({self.of(family, *chosen)})"

    def greatest(self, family: str, *chosen: str, by: str = "") -> str:
        """Return a gauge that is the same in all instances on one database or one host: their sum would count it several times."""
        return f"{_aggregated('max', by)} ({self.of(family, *chosen)})"


def share(part: str, whole: str) -> str:
    """Divide. Where nothing of the part was ever counted it has no series: that is 0, and not unknown."""
    return f"({part} or 0 * {whole}) / {whole}"


def _aggregated(operator: str, by: str) -> str:
    return f"{operator} by ({by})" if by else operator
