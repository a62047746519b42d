"""Metrics of the agents: one elected process reads the state of each agent from the database."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from app import store
from app.store.errors import StoreError
from monitoring import metrics

from . import eligibility
from .elected_task import ElectedTask

if TYPE_CHECKING:
    from app.store.agents import AgentState
    from app.store.database import Database
    from monitoring.multiprocess import Election

_FORGET_TURNS = 300
_GAUGES = (metrics.agent_healthy, metrics.agent_utilization_ratio, metrics.agent_last_heartbeat_timestamp_seconds)


class Collective(ElectedTask):
    """Shows the agents."""

    role = "agents"
    every_seconds = 2.0
    expected_error = StoreError
    failure = "agents are not shown"
    log = logging.getLogger("neurectomy.agents")

    def __init__(self, database: Database) -> None:
        self._database = database
        self._shown: set[str] = set()
        self._turns = 0

    def elected(self, election: Election) -> bool:
        return eligibility.elected(self._database, election)

    async def turn(self) -> None:
        async with self._database.reading() as session:
            found = await store.agents.states(session)
        for state in found:
            show(state)
        ids = {state.id for state in found}
        for removed in self._shown - ids:
            await asyncio.to_thread(hide, removed)
        self._shown = ids
        if self._turns % _FORGET_TURNS == 0:
            async with self._database.writing() as session:
                await store.agents.forget(session)
        self._turns += 1

    async def withdraw(self) -> None:
        if self._shown:
            await asyncio.to_thread(hide_all)
            self._shown = set()


def show(state: AgentState) -> None:
    """Set the gauges of one agent."""
    metrics.agent_healthy.labels(state.id).set(float(state.healthy))
    metrics.agent_utilization_ratio.labels(state.id).set(state.utilization)
    metrics.agent_last_heartbeat_timestamp_seconds.labels(state.id).set(state.heartbeat)


def hide(agent: str) -> None:
    """Remove the gauges of one agent, for all workers. Blocks: it reads the files of all workers."""
    for gauge in _GAUGES:
        with contextlib.suppress(KeyError):  # not shown by this process
            gauge.remove(agent)


def hide_all() -> None:
    """Remove the gauges of all agents, as `hide`."""
    for gauge in _GAUGES:
        gauge.clear()


def count_task(agent: str, status: str, seconds: float) -> None:
    """Count a task that an agent reported."""
    metrics.agent_task_duration_seconds.labels(agent, status).observe(seconds)
    metrics.agent_tasks.labels(agent, status).inc()
