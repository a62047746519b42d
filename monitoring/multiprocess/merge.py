"""Merging the samples of many files into one family: how each type and gauge mode adds up.

The rules are prometheus_client's own (multiprocess.py); on top of them a family's newest declaration decides which samples count,
and old histogram bounds go to the smallest current bound that is not below them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from .families import Family
    from .reader import Key, Source

    Labels = tuple[tuple[str, str], ...]
    Merged = dict[tuple[str, Labels], float]


@dataclass
class Group:
    """All samples of one family: `type` and `mode` decide the rule, `entries` are (source, key, value, timestamp)."""

    name: str
    type: str
    mode: str
    help: str
    declared: Family | None = None
    entries: list[tuple[Source, Key, float, float]] = field(default_factory=list)


def group(sources: list[Source], declared: dict[str, Family], mixed: Counter[str]) -> dict[str, Group]:
    """Sort every source's samples by family; those of another type or mode than the family's are left out and counted in `mixed`."""
    groups = {name: Group(name, family.stored_as[0], family.stored_as[1], family.help, family) for name, family in declared.items()}
    for source in sources:
        for key, (value, timestamp) in source.samples.items():
            found = groups.get(key.family)
            if found is None:
                found = groups[key.family] = Group(key.family, source.type, source.mode, key.help)
            if found.type != source.type:
                mixed["type"] += 1
            elif found.mode != source.mode:
                mixed["mode"] += 1
            else:
                found.entries.append((source, key, value, timestamp))
    return groups


def merge(family: Group, mixed: Counter[str]) -> Metric:
    """The family's metric, its samples in a stable order. ValueError where its name is none."""
    if family.type == "gauge":
        metric = _described(family) if family.declared and family.declared.type in ("info", "stateset") else _gauge(family)
    elif family.type == "histogram":
        metric = _histogram(family, mixed)
    else:
        totals: Merged = defaultdict(float)
        for _, key, value, _ in family.entries:
            totals[key.name, key.labels] += value
        metric = _metric(family, family.type, totals)
    return metric


def _metric(family: Group, kind: str, totals: Merged) -> Metric:
    metric = Metric(family.name, family.help, kind)
    for (name, labels), value in sorted(totals.items(), key=lambda item: (item[0][1], item[0][0])):
        metric.add_sample(name, dict(labels), value)
    return metric


def _gauge(family: Group) -> Metric:
    totals: Merged = {}
    newest: dict[tuple[str, Labels], float] = {}
    rule = family.mode.removeprefix("live")
    for source, key, value, timestamp in family.entries:
        labels = key.labels
        if rule == "all":
            labels = (*labels, ("pid", source.identifier))
        elif any(label == "pid" for label, _ in labels):
            labels = tuple(pair for pair in labels if pair[0] != "pid")
        at = (key.name, labels)
        if rule == "mostrecent":
            if newest.get(at, 0.0) < timestamp:
                newest[at], totals[at] = timestamp, value
        elif at not in totals or rule == "all":
            totals[at] = value
        elif rule == "sum":
            totals[at] += value
        elif (value < totals[at]) if rule == "min" else (value > totals[at]):
            totals[at] = value
    return _metric(family, "gauge", totals)


def _described(family: Group) -> Metric:
    """Info and Enum: of each label set what was said last, by whichever process."""
    assert family.declared is not None
    own = set(family.declared.labels)
    newest: dict[Labels, float] = {}
    for _, key, _, timestamp in family.entries:
        at = tuple(pair for pair in key.labels if pair[0] in own)
        newest[at] = max(newest.get(at, 0.0), timestamp)
    totals: Merged = {}
    for _, key, value, timestamp in family.entries:
        at = tuple(pair for pair in key.labels if pair[0] in own)
        if timestamp == newest[at] and at == tuple(pair for pair in key.labels if pair[0] in own):
            totals[key.name, key.labels] = value
    return _metric(family, family.declared.type, totals)


def _histogram(family: Group, mixed: Counter[str]) -> Metric:
    bounds = sorted(float(bound) for bound in family.declared.buckets) if family.declared else []
    buckets: dict[Labels, dict[float, float]] = {}
    others: dict[Labels, dict[str, float]] = {}
    for _, key, value, _ in family.entries:
        le = next((text for label, text in key.labels if label == "le"), None)
        if le is None:
            sums = others.setdefault(key.labels, {})
            sums[key.name] = sums.get(key.name, 0.0) + value
            continue
        try:
            bound = float(le)
        except ValueError:
            mixed["bucket"] += 1
            continue
        if bounds:
            bound = bounds[min(bisect_left(bounds, bound), len(bounds) - 1)]
        labels = tuple(pair for pair in key.labels if pair[0] != "le")
        counts = buckets.setdefault(labels, dict.fromkeys(bounds, 0.0))
        counts[bound] = counts.get(bound, 0.0) + value
    metric = Metric(family.name, family.help, "histogram")
    for labels in sorted({*buckets, *others}):
        total = 0.0
        for bound, count in sorted(buckets.get(labels, {}).items()):
            total += count
            metric.add_sample(f"{family.name}_bucket", {**dict(labels), "le": floatToGoString(bound)}, total)  # type: ignore[no-untyped-call]
        if labels in buckets:
            metric.add_sample(f"{family.name}_count", dict(labels), total)
        for name, value in sorted(others.get(labels, {}).items()):
            metric.add_sample(name, dict(labels), value)
    return metric
