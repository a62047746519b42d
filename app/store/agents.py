"""Agents and tasks: each task is done by one agent at a time, and reported once.

If the heartbeats of an agent stop, or it is removed, other agents may take its tasks; then the first agent's report is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, or_, select, text, update

from app.errors import ReasonError
from app.store import clock
from app.store.models import Agent, Task

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.ext.asyncio import AsyncSession

SILENT_SECONDS = 30.0
"""An agent without a heartbeat for this long is unhealthy."""

WINDOW_SECONDS = 300.0
"""The window of utilization."""

KEPT_SECONDS = 86_400.0
"""A completed task can be read for this long."""

MOST_AGENTS = 100
MOST_WAITING = 10_000

_AGENTS_LOCK, _TASKS_LOCK = 7_041_776_239, 7_041_776_240
"""Numbers of PostgreSQL's advisory locks. The lock of migrations is one less."""


class AgentsError(ReasonError):
    """A refused request."""


class TooManyError(AgentsError):
    """The most agents or tasks exist already."""


class UnknownAgentError(AgentsError, reason="unknown_agent"):
    """No agent of this id is registered."""


class NotTheirsError(AgentsError, reason="not_theirs"):
    """The task does not belong to this agent: it does not exist, another agent has it, or it was reported."""


@dataclass(frozen=True)
class AgentState:
    """The state of one agent; `utilization` is the share of the window in which it had a task, 0 to 1."""

    id: str
    registered: float
    heartbeat: float
    healthy: bool
    utilization: float


async def register(session: AsyncSession, agent: str) -> bool:
    """Register an agent; return whether it is new. TooManyError if there are 100."""
    await _alone(session, _AGENTS_LOCK)
    now = await clock.now(session)
    found = await session.execute(update(Agent).where(Agent.id == agent).values(heartbeat=now).returning(Agent.id))
    if found.first() is not None:
        return False
    if (await session.scalar(select(func.count()).select_from(Agent)) or 0) >= MOST_AGENTS:
        raise TooManyError(f"there are {MOST_AGENTS} agents already", "too_many_agents")
    session.add(Agent(id=agent, registered=now, heartbeat=now))
    return True


async def beat(session: AsyncSession, agent: str) -> None:
    """Record a heartbeat."""
    now = await clock.now(session)
    found = await session.execute(update(Agent).where(Agent.id == agent).values(heartbeat=now).returning(Agent.id))
    if found.first() is None:
        raise UnknownAgentError(f"no agent {agent!r} is registered")


async def remove(session: AsyncSession, agent: str) -> None:
    """Remove an agent. Its tasks wait for other agents."""
    found = await session.execute(delete(Agent).where(Agent.id == agent).returning(Agent.id))
    if found.first() is None:
        raise UnknownAgentError(f"no agent {agent!r} is registered")
    await session.execute(update(Task).where(Task.agent == agent, Task.ended.is_(None)).values(agent=None, taken=None))


async def submit(session: AsyncSession, content: str) -> Task:
    """Add a task; TooManyError if 10,000 are not done yet."""
    await _alone(session, _TASKS_LOCK)
    if (await session.scalar(select(func.count()).select_from(Task).where(Task.ended.is_(None))) or 0) >= MOST_WAITING:
        raise TooManyError(f"there are {MOST_WAITING} tasks that are not done already", "too_many_tasks")
    task = Task(input=content, created=await clock.now(session))
    session.add(task)
    await session.flush()
    return task


async def take(session: AsyncSession, agent: str) -> Task | None:
    """Assign the oldest waiting task to an agent; return it, or None. Also records a heartbeat."""
    await beat(session, agent)
    now = await clock.now(session)
    well = select(Agent.id).where(Agent.heartbeat > now - SILENT_SECONDS, Agent.heartbeat <= now + SILENT_SECONDS)
    free = or_(Task.agent.is_(None), Task.agent.not_in(well))
    wanted = select(Task).where(Task.ended.is_(None), free).order_by(Task.id).limit(1).with_for_update(skip_locked=True)
    task: Task | None = await session.scalar(wanted)
    if task is not None:
        task.agent, task.taken = agent, now
    return task


async def report(session: AsyncSession, agent: str, task: int, status: str, result: str | None) -> float:
    """Record the result of a task; return the seconds since it was taken. NotTheirsError if this agent does not have it."""
    await beat(session, agent)
    found = await session.get(Task, task, with_for_update=True)
    if found is None or found.agent != agent or found.ended is not None or found.taken is None:
        raise NotTheirsError(f"task {task} is not with agent {agent!r}")
    found.ended, found.status, found.result = await clock.now(session), status, result
    return max(0.0, found.ended - found.taken)


async def task(session: AsyncSession, number: int) -> Task | None:
    """Return a task, or None."""
    return await session.get(Task, number)


async def states(session: AsyncSession) -> list[AgentState]:
    """Return the states of all agents."""
    now = await clock.now(session)
    start = now - WINDOW_SECONDS
    busy: dict[str, list[tuple[float, float]]] = {}
    spans = select(Task.agent, Task.taken, Task.ended).where(Task.taken.is_not(None), or_(Task.ended.is_(None), Task.ended > start))
    for holder, taken, ended in await session.execute(spans):
        if holder is not None and taken is not None:
            busy.setdefault(holder, []).append((max(taken, start), now if ended is None else ended))
    return [
        AgentState(
            id=agent.id,
            registered=agent.registered,
            heartbeat=agent.heartbeat,
            # A heartbeat in the far future is of a clock that was put back: an agent without one since may have stopped.
            healthy=now - SILENT_SECONDS < agent.heartbeat <= now + SILENT_SECONDS,
            utilization=min(1.0, _covered(busy.get(agent.id, ())) / WINDOW_SECONDS),
        )
        for agent in await session.scalars(select(Agent).order_by(Agent.id))
    ]


async def forget(session: AsyncSession) -> None:
    """Remove tasks that were done a day ago."""
    await session.execute(delete(Task).where(Task.ended < await clock.now(session) - KEPT_SECONDS))


async def _alone(session: AsyncSession, lock: int) -> None:
    """Lock counting and adding until this transaction ends. On SQLite writing transactions never overlap."""
    if session.get_bind().dialect.name == "postgresql":
        await session.execute(text(f"SELECT pg_advisory_xact_lock({lock})"))


def _covered(spans: Iterable[tuple[float, float]]) -> float:
    """Return the total time of all spans, where overlapping parts count once."""
    total, reached = 0.0, -float("inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
