"""The bounds of each sample: the least increase that is known, and the most that is possible.

A request that was answered moves its samples by a known amount. A request without a whole answer may have been counted or not, perhaps
under a label that depends on its outcome: it only raises the upper bound.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class Sample(NamedTuple):
    """A name with labels in the order of their names. With fewer labels than the service's samples, it names a group of them."""

    name: str
    labels: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, name: str, **labels: str) -> Sample:
        """Return the sample of this name and these labels."""
        return cls(name, tuple(sorted(labels.items())))

    def label(self, name: str) -> str:
        """Return a label's value, or an empty string."""
        return dict(self.labels).get(name, "")

    def contains(self, sample: Sample) -> bool:
        """Return whether a sample is in this group."""
        return self.name == sample.name and set(self.labels) <= set(sample.labels)

    def __str__(self) -> str:
        return f"{self.name}{{{','.join(f'{label}={value}' for label, value in self.labels)}}}" if self.labels else self.name


class Ledger:
    """The bounds of every sample that the requests so far can have moved."""

    def __init__(self) -> None:
        self.least: Counter[Sample] = Counter()
        self._most: dict[Sample, float] = {}
        #: The number of requests with an unknown outcome, by the group that each would have moved.
        self.unknown: Counter[Sample] = Counter()
        #: Requests that were not sent, because no connection was made.
        self.refused = 0

    def certain(self, sample: Sample, amount: int = 1) -> None:
        """Record that a sample moved by exactly this amount."""
        self.between(sample, amount, amount)

    def between(self, sample: Sample, least: int, most: float) -> None:
        """Record that a sample moved by at least `least` and at most `most`."""
        self.least[sample] += least
        self._most[sample] = self._most.get(sample, 0.0) + most

    def perhaps(self, group: Sample) -> None:
        """Record that at most one sample of a group moved, by one."""
        self.unknown[group] += 1

    def sent(self, sample: Sample) -> float:
        """Return the most that a sample can have moved by, without the requests of unknown outcome."""
        return self._most.get(sample, 0.0)

    def most(self, sample: Sample) -> float:
        """Return the most that a sample can have moved by."""
        return self.sent(sample) + sum(requests for group, requests in self.unknown.items() if group.contains(sample))

    def samples(self) -> Iterator[Sample]:
        """Yield every sample with a bound."""
        yield from self._most

    def total(self, name: str) -> int:
        """Return the sum of the least of all samples of a name."""
        return sum(amount for sample, amount in self.least.items() if sample.name == name)
