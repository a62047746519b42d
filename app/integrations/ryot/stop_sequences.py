"""Text that ends before the first of its stop words, though they may come in pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class StopText:
    """Takes text piece by piece, and releases what can no longer be the beginning of a stop word."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.stopped = False

    def add(self, piece: str) -> str:
        """Give what is released by one more piece; after a stop word that is nothing."""
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
        """Give what was held back for a stop word that never came."""
        released, self._held = self._held, ""
        return released

    def _begun(self, stop: str) -> int:
        """Give how many of the last characters may be the beginning of a stop word."""
        return next((size for size in range(min(len(stop) - 1, len(self._held)), 0, -1) if self._held.endswith(stop[:size])), 0)
