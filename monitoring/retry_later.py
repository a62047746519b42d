"""Waits after a failure before trying again. A leaf beside the packages, for the reason given in `log_once`."""

from __future__ import annotations

import time

#: A stopped process may hold the lock: each attempt to take it would stop this process as well, for as long as it waits.
AFTER_TIMEOUT_SECONDS = 60.0


class Pause:
    """The time after a failure during which an attempt is not repeated."""

    def __init__(self, seconds: float = 1.0) -> None:
        self._seconds = seconds
        self._until = 0.0

    @property
    def over(self) -> bool:
        """Whether the next attempt may be made: always before the first failure."""
        return time.monotonic() >= self._until

    def begin(self, error: OSError | None = None) -> None:
        """Note a failure now. After a TimeoutError the pause is a minute."""
        self._until = time.monotonic() + (AFTER_TIMEOUT_SECONDS if isinstance(error, TimeoutError) else self._seconds)

    def end(self) -> None:
        """Allow the next attempt at once."""
        self._until = 0.0
