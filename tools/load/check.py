"""Whether acknowledged <= counted <= sent holds for every sample."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tools.load.ledger import Ledger, Sample

_SCRAPES = "/metrics"
"""Scrapes of the application itself are nobody's calls."""


def counted(before: Counter[Sample], after: Counter[Sample]) -> Counter[Sample]:
    """Give by how much each sample has moved."""
    return Counter({sample: after[sample] - before[sample] for sample in before.keys() | after.keys()})


def differences(ledger: Ledger, moved: Counter[Sample], *, shared: bool) -> list[str]:
    """Give a line for each sample that was counted less than acknowledged, or, unless others call too, more than sent."""
    found = []
    groups: dict[Sample, list[Sample]] = {}
    for sample in sorted(set(ledger.samples()) | moved.keys()):
        groups.setdefault(sample.group, []).append(sample)
        if sample.label("endpoint") == _SCRAPES:
            continue
        line = _line(str(sample), ledger.least[sample], moved[sample], ledger.most(sample), shared=shared)
        if line:
            found.append(line)
    for group, unknown in sorted(ledger.open.items()):
        samples = groups.get(group, [])
        least, known = sum(ledger.least[sample] for sample in samples), sum(ledger.most(sample) - unknown for sample in samples)
        line = _line(f"{group}, all statuses", least, sum(moved[sample] for sample in samples), known + unknown, shared=shared)
        if line:
            found.append(line)
    return found


def _line(name: str, least: float, counted: float, most: float, *, shared: bool) -> str:
    if counted < 0:
        return f"{name} fell by {-counted:g}: the service was started anew meanwhile"
    if counted < least:
        return f"{name}: counted {counted:.15g}, acknowledged {least:.15g}: {least - counted:.15g} lost"
    if counted > most and not shared:
        return f"{name}: counted {counted:.15g}, sent {most:.15g}: {counted - most:.15g} too many"
    return ""
