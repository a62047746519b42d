"""The rules of merging, each for all files that follow it: sum, greatest, smallest, newest, each file's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from monitoring.multiprocess.storage.record_format import removed

from .vectors import NO_VALUE, NO_VALUE_BITS, NumpyVectors

if TYPE_CHECKING:
    from .vectors import PlainVectors

_RULES = {"": "sum", "sum": "sum", "all": "all", "max": "max", "min": "min", "mostrecent": "recent"}
#: The files of a batch stand in this order.
ORDER = ("sum", "all", "max", "min", "recent")


def rule_of(mode: str) -> str:
    """Return the rule for files of this gauge mode; "" stands for the other types."""
    return _RULES[mode.removeprefix("live")]


def group(vectors: PlainVectors, rule: str, lines: Any, start: int) -> Group:
    """Return the group of the samples from `start` on that have these lines."""
    return NumpyGroup(vectors, rule, lines, start) if isinstance(vectors, NumpyVectors) else Group(vectors, rule, lines, start)


class Group:
    """The samples of one rule, which stand together in a batch, in the order of their files. `merge` brings them to their lines."""

    def __init__(self, vectors: PlainVectors, rule: str, lines: Any, start: int) -> None:
        self._vectors = vectors
        self._span = slice(start, start + len(lines))
        self._use = vectors.where(lines)
        self._lines = lines if self._use is None else vectors.take(lines, self._use)
        self._rule = rule

    def merge(self, values: Any, moments: Any, totals: Any, stamps: Any) -> None:
        """Write the merged values to `totals`, and for most recent gauges their timestamps to `stamps`.

        `values` are those of the whole batch, `moments` the timestamps of the most recent gauges.
        """
        if not len(self._lines):
            return
        values = values[self._span]
        if self._use is not None:
            values = self._vectors.take(values, self._use)
        if self._rule == "sum":
            self._add(values, totals)
        elif self._rule == "all":
            self._put(values, totals)
        elif self._rule == "recent":
            self._keep_newest(values, moments if self._use is None else self._vectors.take(moments, self._use), totals, stamps)
        else:
            self._keep_extreme(values, totals, greater=self._rule == "max")

    def _add(self, values: Any, totals: Any) -> None:
        for line, value in zip(self._lines, values, strict=True):
            totals[line] += value

    def _put(self, values: Any, totals: Any) -> None:
        for line, value in zip(self._lines, values, strict=True):
            totals[line] = value

    def _keep_extreme(self, values: Any, totals: Any, *, greater: bool) -> None:
        """Keep the greatest or smallest; a NaN that came first stays, as in prometheus_client."""
        for line, value in zip(self._lines, values, strict=True):
            known = totals[line]
            if not removed(value) and (removed(known) or ((value > known) if greater else (value < known))):
                totals[line] = value

    def _keep_newest(self, values: Any, moments: Any, totals: Any, stamps: Any) -> None:
        """Keep the value set last, the first of those set at the same time; one that was never set or was removed has none."""
        for line, value, moment in zip(self._lines, values, moments, strict=True):
            if moment > max(stamps[line], 0.0) and not removed(value):
                totals[line], stamps[line] = value, moment


class NumpyGroup(Group):
    """The same on numpy's arrays."""

    def __init__(self, vectors: NumpyVectors, rule: str, lines: Any, start: int) -> None:
        super().__init__(vectors, rule, lines, start)
        self._np = np = vectors.numpy
        self._counts = np.zeros(0)
        if rule in ("max", "min", "recent"):
            self._order = self._lines.argsort(kind="stable")
            ordered = self._lines[self._order]
            self._starts = np.diff(ordered, prepend=-1).nonzero()[0]
            self._distinct = ordered[self._starts]

    def _add(self, values: Any, totals: Any) -> None:
        np, lines, size = self._np, self._lines, len(totals)
        if len(self._counts) != size:
            self._counts = np.bincount(lines, minlength=size)
        # In sequence, each sum from its first file to its last.
        totals[:] = np.bincount(lines, weights=values, minlength=size)
        removed = (values.view(np.int64) == NO_VALUE_BITS).nonzero()[0]
        absent = np.bincount(lines[removed], minlength=size) if len(removed) else 0
        totals[self._counts == absent] = NO_VALUE

    def _put(self, values: Any, totals: Any) -> None:
        totals[self._lines] = values

    def _keep_extreme(self, values: Any, totals: Any, *, greater: bool) -> None:
        np = self._np
        if np.isnan(values).any() or (values.view(np.int64) == NO_VALUE_BITS).any():
            # Which number comes first matters for these: one after the other.
            super()._keep_extreme(values, totals, greater=greater)
        else:
            choose = np.maximum if greater else np.minimum
            totals[self._distinct] = choose.reduceat(values[self._order], self._starts)

    def _keep_newest(self, values: Any, moments: Any, totals: Any, stamps: Any) -> None:
        np, values, moments = self._np, values[self._order], moments[self._order]
        moments = np.where((moments > 0.0) & (values.view(np.int64) != NO_VALUE_BITS), moments, 0.0)
        last = np.maximum.reduceat(moments, self._starts)
        chosen = ((moments == np.repeat(last, np.diff(self._starts, append=len(moments)))) & (moments > 0.0)).nonzero()[0][::-1]
        lines = self._lines[self._order[chosen]]
        totals[lines], stamps[lines] = values[chosen], moments[chosen]
