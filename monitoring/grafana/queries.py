"""The pieces of PromQL that panels share: every family is asked for by the dashboard's variables, every rate over Grafana's own window."""

from __future__ import annotations

from dataclasses import dataclass, replace

from monitoring.prometheus import Configuration, promql

WORKERS = 'worker!=""'
"""Of `process_*`: not Prometheus itself, nor Alertmanager, which have families of the same names."""
_UNITS = {"seconds": "s", "bytes": "bytes", "ratio": "percentunit", "dollars": "currencyUSD", "celsius": "celsius", "watts": "watt"}
"""Grafana's names of the units with which families' names end."""


@dataclass(frozen=True)
class Query:
    """One expression, with PromQL's operators, which add no parentheses.

    `legend` names its series by their labels. `exemplar` also asks for traces of single observations; `instant` asks for one value.
    """

    expression: str
    legend: str = ""
    unit: str = "short"
    exemplar: bool = False
    instant: bool = False

    def named(self, legend: str) -> Query:
        """Return the same with another legend."""
        return replace(self, legend=legend)

    def __str__(self) -> str:
        return self.expression

    def __truediv__(self, whole: Query) -> Query:
        return replace(self, expression=f"{self} / {whole}", unit="percentunit")

    def __rmul__(self, factor: int) -> Query:
        return replace(self, expression=f"{factor} * {self}")

    def __rsub__(self, minuend: int | str) -> Query:
        return replace(self, expression=f"{minuend} - {self}")

    def __or__(self, otherwise: Query | str) -> Query:
        return replace(self, expression=f"{self} or {otherwise}")


class Queries:
    """Makes queries. `by` names the labels that remain, and the legend shows them; `chosen` are matchers."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        #: The endpoints that are users': neither health checks nor scrapes.
        self.users = promql.users(configuration)
        #: Those of them that the latency objective is about.
        self.quick = promql.quick(configuration)

    def of(self, family: str, *chosen: str) -> str:
        """Choose the series of a family."""
        return family + promql.matchers('cluster=~"$cluster"', 'instance=~"$instance"', self.configuration.selector, *chosen)

    def rate(self, family: str, *chosen: str, by: str = "") -> Query:
        """Return the increase of a counter per second, summed."""
        rates = _aggregated("sum", by, f"rate({self.of(family, *chosen)}[$__rate_interval])")
        return replace(rates, unit="Bps" if family.endswith("_bytes_sum") else "short")

    def gained(self, family: str, *chosen: str) -> Query:
        """Return the increase of a counter over the time that the dashboard shows, summed."""
        increases = _aggregated("sum", "", f"increase({self.of(family, *chosen)}[$__range])")
        return replace(increases, unit=_unit(family), instant=True)

    def quantile(self, family: str, *chosen: str, by: str = "", part: float = 0.95) -> Query:
        """Return a quantile of a histogram, with exemplars if it measures time."""
        buckets = self.rate(f"{family}_bucket", *chosen, by=f"{by}, le" if by else "le")
        return Query(f"histogram_quantile({part:g}, {buckets})", _legend(by), _unit(family), exemplar=family.endswith("_seconds"))

    def quantiles(self, *parts: float, of: str, chosen: str = "", by: str = "") -> tuple[Query, ...]:
        """Return several quantiles of a histogram, named p50, p95, ..."""
        return tuple(self.quantile(of, chosen, by=by, part=part).named(f"p{part * 100:g} {_legend(by)}".strip()) for part in parts)

    def mean(self, family: str, *chosen: str, by: str = "") -> Query:
        """Return the mean of a histogram's observations, with exemplars if it measures time."""
        means = self.rate(f"{family}_sum", *chosen, by=by) / self.rate(f"{family}_count", *chosen, by=by)
        return replace(means, unit=_unit(family), exemplar=family.endswith("_seconds"))

    def total(self, family: str, *chosen: str, by: str = "") -> Query:
        """Add up a gauge of which each instance has its own part."""
        return replace(_aggregated("sum", by, self.of(family, *chosen)), unit=_unit(family))

    def greatest(self, family: str, *chosen: str, by: str = "") -> Query:
        """Return a gauge that is the same in all instances on one database or one host: their sum would count it several times."""
        return replace(_aggregated("max", by, self.of(family, *chosen)), unit=_unit(family))


def share(part: Query, whole: Query) -> Query:
    """Divide. Where nothing of the part was ever counted it has no series: that is 0, and not unknown."""
    return replace(part, expression=f"({part | 0 * whole}) / {whole}", unit="percentunit")


def _aggregated(operator: str, by: str, series: str) -> Query:
    return Query(f"{operator} by ({by}) ({series})" if by else f"{operator} ({series})", _legend(by))


def _legend(by: str) -> str:
    names = [f"{{{{{label}}}}}" for label in by.split(", ") if label]
    return " on ".join(reversed(names)) if by.startswith("instance, ") else ": ".join(names)


def _unit(family: str) -> str:
    return _UNITS.get(family.removesuffix("_total").rpartition("_")[2], "short")
