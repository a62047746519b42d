"""The collective of agents as its metrics show it: one elected process reads from the database how each of them is."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from app.store.errors import StoreError
from monitoring import metrics
from monitoring.log_once import LogOnce
from monitoring.multiprocess import Election

from . import eligibility

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from app.store.agents import State
    from app.store.database import Database

ROLE = "agents"
_EVERY_SECONDS = 2.0
_FORGET_TURNS = 300
_GAUGES = (metrics.agent_healthy, metrics.agent_utilization_ratio, metrics.agent_last_heartbeat_timestamp_seconds)
_log = logging.getLogger("neurectomy.agents")


class Collective:
    """Shows the agents where this process is elected."""

    def __init__(self, database: Database) -> None:
        """Nothing begins before `running`."""
        self._database = database
        self._shown: set[str] = set()
        self._problems = LogOnce(_log)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Show every few seconds until the block ends."""
        role = Election(ROLE)
        task = asyncio.create_task(self._run(role))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await asyncio.to_thread(role.release)

    async def _run(self, role: Election) -> None:
        turn = 0
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            try:
                if await asyncio.to_thread(eligibility.elected, self._database, role):
                    await self._show(forget=turn % _FORGET_TURNS == 0)
                    turn += 1
                self._problems.clear()
            except StoreError as error:
                await self._unknown(str(error))
            except Exception as error:  # noqa: BLE001 - a damaged metrics file, say: the next round may do
                await self._unknown(repr(error))

    async def _show(self, *, forget: bool) -> None:
        from app.store import agents

        async with self._database.reading() as session:
            found = await agents.states(session)
        for state in found:
            show(state)
        ids = {state.id for state in found}
        for gone in self._shown - ids:
            await asyncio.to_thread(hide, gone)
        self._shown = ids
        if forget:
            async with self._database.writing() as session:
                await agents.forget(session)

    async def _unknown(self, why: str) -> None:
        """Say nothing rather than what was true once."""
        self._problems.warn(f"agents are not shown: {why}")
        if self._shown:
            await asyncio.to_thread(hide_all)
            self._shown = set()


def show(state: State) -> None:
    """Set the gauges of one agent."""
    metrics.agent_healthy.labels(state.id).set(float(state.healthy))
    metrics.agent_utilization_ratio.labels(state.id).set(state.utilization)
    metrics.agent_last_heartbeat_timestamp_seconds.labels(state.id).set(state.heartbeat)


def hide(agent: str) -> None:
    """Take the gauges of one agent out, for all workers. Not on an event loop: all their files are looked through."""
    for gauge in _GAUGES:
        with contextlib.suppress(KeyError):  # not shown by this process
            gauge.remove(agent)


def hide_all() -> None:
    """Take the gauges of all agents out, as `hide`."""
    for gauge in _GAUGES:
        gauge.clear()


def count_task(agent: str, status: str, seconds: float) -> None:
    """Count a task that an agent has reported."""
    metrics.agent_task_duration_seconds.labels(agent, status).observe(seconds)
    metrics.agent_tasks.labels(agent, status).inc()
