"""Where the samples of one file go in the view: a cell for each, or the reason why it has none."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .sample_layout import Layout
    from .vectors import PlainVectors

#: Why a sample is left out; its cell is the reason's place here, counted from -1 downwards.
REASONS = ("bucket", "mode", "name", "type")


class Placed:
    """The cells of one source in `layout`, in the order of its samples, and how many samples have none, by reason.

    While a bulk has the cells (`lend`), only those that came since are here, in `more`.
    """

    def __init__(self, layout: Layout, table: dict[int, int], vectors: PlainVectors) -> None:
        self.layout = layout
        #: The cell of each key in files of this kind.
        self.table = table
        #: How many samples have a place.
        self.count = 0
        self.cells: Any = vectors.indexes([])
        self.more: list[int] = []
        self.mixed: Counter[str] = Counter()
        self._vectors = vectors
        self._lent = False
        self._highest = -1
        self._repeats: bool | None = False

    def add(self, cells: list[int]) -> None:
        """The cells of the samples that follow."""
        least = min(cells)
        if least < 0:
            self.mixed.update(REASONS[-1 - cell] for cell in cells if cell < 0)
        # Cells are given in ascending order: what is above all former ones cannot be one of them.
        if self._repeats is False and not (least > self._highest and len(set(cells)) == len(cells)):
            self._repeats = None
        self._highest = max(self._highest, *cells)
        if self._lent:
            self.more += cells
        else:
            vector = self._vectors.indexes(cells)
            self.cells = self._vectors.joined(self.cells, vector) if self.count else vector
        self.count += len(cells)

    def add_same(self, other: Placed) -> None:
        """The cells of all samples, which are those of another source with the same keys."""
        self.count, self.cells, self.mixed = other.count, other.cells, other.mixed.copy()
        self._highest, self._repeats = other._highest, other._repeats

    @property
    def use(self) -> Any:
        """Which samples have a cell; None for all."""
        return self._vectors.where(self.cells) if self.mixed else None

    @property
    def repeats(self) -> bool:
        """Whether two samples have the same cell."""
        if self._repeats is None:
            use = self.use
            self._repeats = self._vectors.repeats(self.cells if use is None else self._vectors.take(self.cells, use))
        return self._repeats

    def lend(self) -> Any:
        """Give the cells away."""
        cells, self.cells, self._lent = self.cells, (), True
        return cells

    def take_more(self) -> list[int]:
        """The cells that came since they were lent, or since this was asked last."""
        more, self.more = self.more, []
        return more

    def take_back(self, cells: Any) -> None:
        """Have the cells again."""
        more, self._lent = self.take_more(), False
        self.cells = self._vectors.joined(cells, self._vectors.indexes(more)) if more else cells
