"""What the metrics must have counted: for each sample, the least that is known and the most that is possible.

A call that was answered moves its samples by what is known. One whose answer never came whole may have been counted or not, under
whatever status: it widens what is possible, and nothing else.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "neurectomy_"


class Sample(NamedTuple):
    """One sample, by its name without the prefix, and its labels in the order of their names."""

    name: str
    labels: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, name: str, **labels: str) -> Sample:
        """Name a sample."""
        return cls(name, tuple(sorted(labels.items())))

    @property
    def group(self) -> Sample:
        """The sample with no status: what it has in common with those of other outcomes."""
        return Sample(self.name, tuple((label, value) for label, value in self.labels if label != "status"))

    def label(self, name: str) -> str:
        """Give a label's value."""
        return dict(self.labels).get(name, "")

    def __str__(self) -> str:
        return f"{self.name}{{{','.join(f'{label}={value}' for label, value in self.labels)}}}" if self.labels else self.name


class Ledger:
    """The bounds of every sample that the calls so far can have moved."""

    def __init__(self) -> None:
        self.least: Counter[Sample] = Counter()
        self._most: defaultdict[Sample, float] = defaultdict(float)
        #: Calls of a group whose outcome nobody knows.
        self.open: Counter[Sample] = Counter()
        #: Calls that met nobody: no connection was made, so nothing was sent.
        self.refused = 0

    def certain(self, sample: Sample, amount: int = 1) -> None:
        """Expect a sample to have moved by just this."""
        self.between(sample, amount, amount)

    def between(self, sample: Sample, least: int, most: float) -> None:
        """Expect a sample to have moved by so much at least, and by so much at most."""
        self.least[sample] += least
        self._most[sample] += most

    def perhaps(self, group: Sample) -> None:
        """Expect one sample of a group, whatever its status, to have moved by one, or none."""
        self.open[group] += 1

    def most(self, sample: Sample) -> float:
        """Give the most that a sample can have moved by."""
        return self._most.get(sample, 0.0) + self.open[sample.group]

    def samples(self) -> Iterator[Sample]:
        """Give every sample that was named."""
        yield from self._most

    def total(self, name: str) -> int:
        """Add up the least of all samples of a name."""
        return sum(amount for sample, amount in self.least.items() if sample.name == name)
