"""Logs each problem once, until it is over.

A leaf beside the packages, not inside `monitoring.multiprocess`: the application and the other packages log the same way, and may
import only the names at the door of `monitoring.multiprocess`. It imports nothing of the library.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

_MOST = 100


class LogOnce:
    """The problems of one component that are in its log already. While 100 are, no further one is logged."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._known: set[str] = set()

    def warn(self, message: str, about: str | None = None, level: int = logging.WARNING) -> None:
        """Log a message unless the problem that it is about (by default, the message itself) is in the log already."""
        about = message if about is None else about
        if about not in self._known and len(self._known) < _MOST:
            self._known.add(about)
            self._log.log(level, "%s", message)

    def over(self, about: str) -> None:
        """Log this problem again when it comes back."""
        self._known.discard(about)

    def clear(self, but: Collection[str] = ()) -> None:
        """Log every problem again when it comes back, but those that are still there."""
        self._known.intersection_update(but)
