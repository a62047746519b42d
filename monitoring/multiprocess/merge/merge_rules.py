"""The rules of merging, each for all of its files at once: sum, greatest, smallest, newest, each file's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .vectors import NO_VALUE, NO_VALUE_BITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .vectors import NumpyVectors

_RULES = {"": "sum", "sum": "sum", "all": "all", "max": "max", "min": "min", "mostrecent": "recent"}
#: In this order the files of a bulk stand.
ORDER = ("sum", "all", "max", "min", "recent")


def rule_of(mode: str) -> str:
    """The rule for files of this gauge mode; "" for the other types."""
    return _RULES[mode.removeprefix("live")]


class Group:
    """All values of one rule, which stand together in the bulk's, from `start` on, and their cells."""

    def __init__(self, vectors: NumpyVectors, rule: str, cells: Any, start: int) -> None:
        np = vectors.numpy
        self._np, self._vectors, self._rule = np, vectors, rule
        #: Its values, and those of them that have a cell.
        self.span = slice(start, start + len(cells))
        self._use: Any = slice(None) if (cells >= 0).all() else (cells >= 0).nonzero()[0]
        self._cells = cells[self._use]
        self._counts = np.zeros(0)
        if rule in ("max", "min", "recent"):
            self._order = self._cells.argsort(kind="stable")
            ordered = self._cells[self._order]
            self._starts = np.diff(ordered, prepend=-1).nonzero()[0]
            self._distinct = ordered[self._starts]

    def summed(self, values: Any, size: int, others: Sequence[tuple[int, Any, Any]] = ()) -> Any:
        """The sum of each cell. Others are values and their cells, and before which of the group's own (by position) they are added."""
        np, cells, values, counts = self._np, self._cells, values[self.span][self._use], self._counts
        if others:
            at = np.repeat([self._used_before(position) for position, _, _ in others], [len(those) for _, those, _ in others])
            cells = np.insert(cells, at, np.concatenate([those for _, those, _ in others]))
            values = np.insert(values, at, np.concatenate([those for _, _, those in others]))
            counts = np.bincount(cells, minlength=size)
        elif len(counts) != size:
            counts = self._counts = np.bincount(cells, minlength=size)
        if not len(cells):
            return np.full(size, NO_VALUE)  # bincount would count in integers
        totals = np.bincount(cells, weights=values, minlength=size)
        removed = (values.view(np.int64) == NO_VALUE_BITS).nonzero()[0]
        blank = np.bincount(cells[removed], minlength=size) == counts if len(removed) else counts == 0
        totals[blank] = NO_VALUE
        return totals

    def _used_before(self, position: int) -> int:
        """How many of the values that have a cell stand before this one of all."""
        return position if isinstance(self._use, slice) else int(self._use.searchsorted(position))

    def merge(self, values: Any, totals: Any) -> None:
        """Each file's own value, or the greatest or smallest of a cell."""
        np = self._np
        if not len(self._cells):
            return
        values = values[self.span][self._use]
        if self._rule == "all":
            totals[self._cells] = values
        elif np.isnan(values).any() or (values.view(np.int64) == NO_VALUE_BITS).any():
            # Which number comes first matters for these: one after the other.
            self._vectors.one_by_one.extreme(totals, self._cells, values, greater=self._rule == "max")
        else:
            choose = np.maximum if self._rule == "max" else np.minimum
            totals[self._distinct] = choose.reduceat(values[self._order], self._starts)

    def newest(self, values: Any, moments: Any, totals: Any, stamps: Any) -> None:
        """The value set last of each cell, the first of those set at the same moment; what was never set or was removed has none."""
        np = self._np
        if not len(self._cells):
            return
        values, moments = values[self.span][self._use][self._order], moments[self._use][self._order]
        moments = np.where((moments > 0.0) & (values.view(np.int64) != NO_VALUE_BITS), moments, 0.0)
        last = np.maximum.reduceat(moments, self._starts)
        chosen = ((moments == np.repeat(last, np.diff(self._starts, append=len(moments)))) & (moments > 0.0)).nonzero()[0][::-1]
        cells = self._cells[self._order[chosen]]
        totals[cells], stamps[cells] = values[chosen], moments[chosen]
