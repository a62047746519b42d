"""Text that ends before its first stop sequence, even if the sequence arrives in several pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class StopText:
    """Collects text in pieces, and releases it once it can no longer be the start of a stop sequence."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.stopped = False

    def add(self, piece: str) -> str:
        """Add a piece and return the released text, which is empty after a stop sequence."""
        if self.stopped:
            return ""
        self._held += piece
        places = [place for place in map(self._held.find, self._stops) if place >= 0]
        if places:
            self.stopped = True
            released, self._held = self._held[: min(places)], ""
            return released
        keep = max((self._begun(stop) for stop in self._stops), default=0)
        cut = len(self._held) - keep
        released, self._held = self._held[:cut], self._held[cut:]
        return released

    def rest(self) -> str:
        """Return the text that was held back for a stop sequence that did not arrive."""
        released, self._held = self._held, ""
        return released

    def _begun(self, stop: str) -> int:
        """Return how many of the last characters may be the start of a stop sequence."""
        return next((size for size in range(min(len(stop) - 1, len(self._held)), 0, -1) if self._held.endswith(stop[:size])), 0)
