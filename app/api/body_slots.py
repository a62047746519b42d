"""How many long bodies one worker works on at once: each may hold tens of MiB of memory and 1 GiB of disk."""

import asyncio

from app.api.problems import RETRY_SECONDS, ProblemError

_WAITING_FOR_EACH = 4
"""So many may wait for each place: what a waiting body holds is bounded too."""


class LongBodies:
    """The places of one worker."""

    def __init__(self, most: int, wait_seconds: float = RETRY_SECONDS) -> None:
        """Make `most` places; nobody waits longer than `wait_seconds` for one."""
        self._most = most
        self._wait_seconds = wait_seconds
        self._free = asyncio.Semaphore(most)
        self._waiting = 0

    async def take(self) -> None:
        """Wait for a place; ProblemError where none comes free in time, or too many wait already."""
        if self._waiting >= _WAITING_FOR_EACH * self._most:
            raise self._busy()
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._free.acquire()
        except TimeoutError as error:
            raise self._busy() from error
        finally:
            self._waiting -= 1

    def give_back(self) -> None:
        """Give one place back."""
        self._free.release()

    def _busy(self) -> ProblemError:
        detail = f"this worker is at work on {self._most} long bodies (SIGMALANG_MAX_LONG_BODIES); try again"
        return ProblemError(503, "busy", detail, {"Retry-After": str(RETRY_SECONDS)})


class Place:
    """The place of one body, which it takes once it proves long."""

    def __init__(self, among: LongBodies) -> None:
        """Take none yet."""
        self._among = among
        self._taken = False

    async def take(self) -> None:
        """Have a place from now on; see `LongBodies.take`."""
        if not self._taken:
            await self._among.take()
            self._taken = True

    def leave(self) -> None:
        """Give the place back, if there is one."""
        if self._taken:
            self._taken = False
            self._among.give_back()
