"""Repeats a task in one process of the instance: the process that is elected for the task's role."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from typing import TYPE_CHECKING, ClassVar

from monitoring.log_once import LogOnce
from monitoring.multiprocess import Election

if TYPE_CHECKING:
    import logging
    from collections.abc import AsyncIterator


class ElectedTask:
    """A task of every worker, of which only the elected worker does `turn`. A subclass sets the class variables."""

    role: ClassVar[str]
    every_seconds: ClassVar[float]
    retry_seconds: ClassVar[float | None] = None
    """The pause after a failure; None for `every_seconds`."""
    expected_error: ClassVar[type[Exception]]
    """Its text is one line that an operator understands. Any other exception is logged with its traceback."""
    failure: ClassVar[str]
    """The start of the log line, for example "agents are not shown"."""
    log: ClassVar[logging.Logger]

    _election: Election | None = None
    _problems: LogOnce

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Repeat the task until the block ends, then release the role."""
        election = self._election = Election(self.role)
        task = asyncio.create_task(self._run(election))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            await asyncio.to_thread(election.release)

    def elected(self, election: Election) -> bool:
        """Try to hold the role; return whether this process holds it. Runs in a thread."""
        return election.try_hold()

    async def every_turn(self) -> None:
        """Do the part of the task that every process does, elected or not."""

    async def turn(self) -> None:
        """Do the task once."""
        raise NotImplementedError

    async def withdraw(self) -> None:
        """After a failure, withdraw values that may be out of date."""

    async def _run(self, election: Election) -> None:
        problems = self._problems = LogOnce(self.log)
        pause = self.every_seconds
        while True:
            await asyncio.sleep(pause)
            pause = self.every_seconds
            try:
                await self.every_turn()
                if await asyncio.to_thread(self.elected, election):
                    await self.turn()
                problems.clear()
            except Exception as error:  # noqa: BLE001 - a full disk, for example: the next turn may succeed
                why = str(error) if isinstance(error, self.expected_error) else "".join(traceback.format_exception(error))
                problems.warn(f"{self.failure}: {why}", about=repr(error))
                await self.withdraw()
                pause = self.retry_seconds or pause
