"""Declares families, each with its rule for many workers. docs/metrics.md is generated from the declarations."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram, Info

from monitoring.catalogue.prefix import PREFIX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prometheus_client.metrics import MetricWrapperBase


class Rule(Enum):
    """How the values of many workers are merged."""

    SUM = "summed over all workers that ever lived"
    LIVE_SUM = "summed over the living workers"
    LIVE_MAX = "the maximum over the living workers"
    ONE = "written by one elected process"
    SAMPLED = "sampled by each living worker; the newest sample counts"
    EACH = "one series per living worker, with the label `worker`"
    NEWEST = "the newest value that any worker set"


_MODES = {
    Rule.LIVE_SUM: "livesum",
    Rule.LIVE_MAX: "livemax",
    Rule.ONE: "livemostrecent",
    Rule.SAMPLED: "livemostrecent",
    Rule.EACH: "livesum",
}


@dataclass(frozen=True)
class Family:
    """One declaration. `name` is the exposed name, with `_total` or `_info`; `buckets` are the finite bounds of a histogram."""

    name: str
    kind: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...]
    rule: Rule
    help: str
    metric: MetricWrapperBase


FAMILIES: list[Family] = []
"""Every family of the catalogue."""


def counter(name: str, text: str, labels: Sequence[str] = ()) -> Counter:
    """Declare a counter; `_total` is added to the name."""
    made = Counter(PREFIX + name, text, labels)
    FAMILIES.append(Family(f"{PREFIX}{name}_total", "counter", tuple(labels), (), Rule.SUM, text, made))
    return made


def histogram(name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = (), rule: Rule = Rule.SUM) -> Histogram:
    """Declare a histogram; `buckets` are its finite bounds."""
    made = Histogram(PREFIX + name, text, labels, buckets=buckets)
    FAMILIES.append(Family(PREFIX + name, "histogram", tuple(labels), tuple(map(float, buckets)), rule, text, made))
    return made


def gauge(name: str, text: str, rule: Rule, labels: Sequence[str] = ()) -> Gauge:
    """Declare a gauge. Its multiprocess mode follows from the rule."""
    made = Gauge(PREFIX + name, text, labels, multiprocess_mode=_MODES[rule])  # type: ignore[arg-type]
    FAMILIES.append(Family(PREFIX + name, "gauge", tuple(labels), (), rule, text, made))
    return made


def info(name: str, text: str, labels: Sequence[str]) -> Info:
    """Declare an info; `labels` are the labels that `info()` sets."""
    made = Info(PREFIX + name, text)
    FAMILIES.append(Family(f"{PREFIX}{name}_info", "info", tuple(labels), (), Rule.NEWEST, text, made))
    return made
