"""Compares a ledger with the samples of two scrapes: acknowledged <= counted <= sent must hold for every sample."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from .ledger import Sample

if TYPE_CHECKING:
    from .ledger import Ledger


def read_samples(exposition: str) -> Counter[Sample]:
    """Return the value of each sample of a scrape in the text format; ValueError for malformed text."""
    values: Counter[Sample] = Counter()
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            values[Sample.of(sample.name, **sample.labels)] = sample.value  # type: ignore[assignment]
    return values


def increases(before: Counter[Sample], after: Counter[Sample]) -> Counter[Sample]:
    """Return the increase of each sample between two scrapes."""
    return Counter({sample: after[sample] - before[sample] for sample in before.keys() | after.keys()})


def differences(ledger: Ledger, counted: Counter[Sample], *, shared: bool = False) -> list[str]:
    """Return a line for each sample that was counted less often than acknowledged, or more often than sent.

    `counted` holds the increase of each sample that is to be checked. With `shared`, others call the service too: more is not an error.
    """
    samples = sorted(set(ledger.samples()) | counted.keys())
    lines = [_line(str(sample), ledger.least[sample], counted[sample], ledger.most(sample), shared=shared) for sample in samples]
    for group, unknown in sorted(ledger.unknown.items()):
        members = [sample for sample in samples if group.contains(sample)]
        least, most = sum(ledger.least[sample] for sample in members), sum(ledger.sent(sample) for sample in members) + unknown
        lines.append(_line(f"{group}, all outcomes", least, sum(counted[sample] for sample in members), most, shared=shared))
    return [line for line in lines if line]


def _line(name: str, least: float, counted: float, most: float, *, shared: bool) -> str:
    if counted < 0:
        return f"{name} fell by {-counted:g}: the service was restarted"
    if counted < least:
        return f"{name}: counted {counted:.15g}, acknowledged {least:.15g}: {least - counted:.15g} lost"
    if counted > most and not shared:
        return f"{name}: counted {counted:.15g}, sent {most:.15g}: {counted - most:.15g} too many"
    return ""
