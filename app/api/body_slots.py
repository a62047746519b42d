"""Limits the long bodies that one worker handles at once: each may use tens of MiB of memory and 1 GiB of disk."""

import asyncio

from app.api.problems import RETRY_SECONDS, ProblemError

_WAITING_FOR_EACH = 4
"""The most bodies that wait for each slot: a waiting body uses memory and disk too."""


class BodySlots:
    """The slots of one worker."""

    def __init__(self, most: int, wait_seconds: float = RETRY_SECONDS) -> None:
        """Make `most` slots. A body waits for one for at most `wait_seconds`."""
        self._most = most
        self._wait_seconds = wait_seconds
        self._free = asyncio.Semaphore(most)
        self._waiting = 0

    async def take(self) -> None:
        """Wait for a slot; ProblemError if none is released in time, or too many bodies wait already."""
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

    def release(self) -> None:
        """Release one slot."""
        self._free.release()

    def _busy(self) -> ProblemError:
        detail = f"this worker already handles {self._most} long bodies (SIGMALANG_MAX_LONG_BODIES); try again"
        return ProblemError(503, "busy", detail, {"Retry-After": str(RETRY_SECONDS)})


class BodySlot:
    """The slot of one body, taken once the body proves long."""

    def __init__(self, among: BodySlots) -> None:
        self._among = among
        self._taken = False

    async def take(self) -> None:
        """Take a slot unless it has one already; see `BodySlots.take`."""
        if not self._taken:
            await self._among.take()
            self._taken = True

    def release(self) -> None:
        """Release the slot, if it has one."""
        if self._taken:
            self._taken = False
            self._among.release()
