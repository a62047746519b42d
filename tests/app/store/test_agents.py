"""Agents and tasks on both databases: one agent has a task at a time, and it is reported once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import update

from app.store import agents
from app.store.database import Database
from app.store.models import Agent, Task

if TYPE_CHECKING:
    from app.store.database_url import DatabaseLocation


async def register(database: Database, *names: str) -> None:
    async with database.writing() as session:
        for name in names:
            await agents.register(session, name)


async def submit(database: Database, count: int) -> list[int]:
    async with database.writing() as session:
        return [(await agents.submit(session, f'"{number}"')).id for number in range(count)]


async def take(database: Database, agent: str) -> int | None:
    async with database.writing() as session:
        task = await agents.take(session, agent)
        return None if task is None else task.id


async def report(database: Database, agent: str, task: int, status: str = "success") -> float:
    async with database.writing() as session:
        return await agents.report(session, agent, task, status, None)


async def states(database: Database) -> dict[str, agents.AgentState]:
    async with database.reading() as session:
        return {state.id: state for state in await agents.states(session)}


async def silence(database: Database, agent: str, seconds: float = agents.SILENT_SECONDS + 1) -> None:
    async with database.writing() as session:
        await session.execute(update(Agent).where(Agent.id == agent).values(heartbeat=time.time() - seconds))


def test_each_task_is_with_one_agent_and_reported_once(place: DatabaseLocation) -> None:
    async def work() -> None:
        database = Database(place)
        names = [f"agent-{number}" for number in range(5)]
        await register(database, *names)
        tasks = await submit(database, 25)

        async def toil(agent: str) -> list[int]:
            done = []
            while (task := await take(database, agent)) is not None:
                await report(database, agent, task)
                done.append(task)
            return done

        done = await asyncio.gather(*map(toil, names))
        assert sorted(task for each in done for task in each) == tasks
        for task in tasks[:2]:
            for agent in names:
                with pytest.raises(agents.NotTheirsError):
                    await report(database, agent, task)
        await database.close()

    asyncio.run(work())


def test_a_task_of_who_is_silent_or_gone_goes_to_another(place: DatabaseLocation) -> None:
    async def work() -> None:
        database = Database(place)
        await register(database, "first", "second", "third")
        (task,) = await submit(database, 1)
        assert await take(database, "first") == task
        assert await take(database, "second") is None
        await silence(database, "first")
        assert not (await states(database))["first"].healthy
        assert await take(database, "second") == task
        with pytest.raises(agents.NotTheirsError):
            await report(database, "first", task)
        async with database.writing() as session:
            await agents.remove(session, "second")
        with pytest.raises(agents.UnknownAgentError):
            await report(database, "second", task)
        assert await take(database, "third") == task
        assert await report(database, "third", task, "error") >= 0
        async with database.reading() as session:
            found = await agents.task(session, task)
        assert found is not None
        assert (found.agent, found.status) == ("third", "error")
        await database.close()

    asyncio.run(work())


def test_who_is_gone_since_the_clock_was_put_back_is_not_well(place: DatabaseLocation) -> None:
    async def work() -> None:
        database = Database(place)
        await register(database, "gone", "alive")
        (task,) = await submit(database, 1)
        assert await take(database, "gone") == task
        for agent in ("gone", "alive"):
            await silence(database, agent, -7200)
        assert await take(database, "alive") == task
        assert {agent: state.healthy for agent, state in (await states(database)).items()} == {"gone": False, "alive": True}
        await database.close()

    asyncio.run(work())


def test_unknown_agents_and_too_many(place: DatabaseLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        database = Database(place)
        for call in (agents.beat, agents.remove, agents.take):
            with pytest.raises(agents.UnknownAgentError):
                async with database.writing() as session:
                    await call(session, "nobody")
        monkeypatch.setattr(agents, "MOST_AGENTS", 2)
        monkeypatch.setattr(agents, "MOST_WAITING", 3)
        await register(database, "a", "b", "a")
        with pytest.raises(agents.TooManyError):
            await register(database, "c")
        await submit(database, 3)
        with pytest.raises(agents.TooManyError):
            await submit(database, 1)
        assert list(await states(database)) == ["a", "b"]
        await database.close()

    asyncio.run(work())


def test_utilization_is_the_share_of_the_window_with_a_task(place: DatabaseLocation) -> None:
    async def work() -> None:
        database = Database(place)
        await register(database, "busy", "idle", "often")
        now = time.time()
        window = agents.WINDOW_SECONDS
        spans = {
            "busy": [(now - 10 * window, None)],
            # Half of it, twice over, then a tenth; what was before the window does not count.
            "often": [
                (now - 0.9 * window, now - 0.4 * window),
                (now - 0.8 * window, now - 0.5 * window),
                (now - 0.1 * window, now),
                (1.0, 2.0),
            ],
        }
        async with database.writing() as session:
            for agent, each in spans.items():
                for taken, ended in each:
                    session.add(Task(input="1", created=now, agent=agent, taken=taken, ended=ended, status=ended and "success"))
        found = await states(database)
        assert found["busy"].utilization == pytest.approx(1, abs=0.01)
        assert found["often"].utilization == pytest.approx(0.6, abs=0.05)
        assert found["idle"].utilization == 0
        async with database.writing() as session:
            await agents.forget(session)
        async with database.reading() as session:
            kept = [await agents.task(session, number) for number in range(1, 6)]
        assert [task is None for task in kept] == [False, False, False, False, True]
        await database.close()

    asyncio.run(work())


def test_the_bounds_hold_where_many_come_at_once(place: DatabaseLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        database = Database(place)
        monkeypatch.setattr(agents, "MOST_AGENTS", 3)
        monkeypatch.setattr(agents, "MOST_WAITING", 3)
        for attempt in (lambda number: register(database, f"agent-{number}"), lambda _: submit(database, 1)):
            outcomes = await asyncio.gather(*map(attempt, range(20)), return_exceptions=True)
            refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
            assert {type(each) for each in refused} == {agents.TooManyError}, refused
            assert len(outcomes) - len(refused) == 3
        assert len(await states(database)) == 3
        await database.close()

    asyncio.run(work())


def test_who_registers_again_while_it_is_removed_is_registered_or_not(place: DatabaseLocation) -> None:
    async def work() -> None:
        database = Database(place)

        async def remove() -> None:
            with contextlib.suppress(agents.UnknownAgentError):
                async with database.writing() as session:
                    await agents.remove(session, "agent")

        for _ in range(10):
            await asyncio.gather(*(call() for _ in range(5) for call in (lambda: register(database, "agent"), remove)))
            assert list(await states(database)) in ([], ["agent"])
        await database.close()

    asyncio.run(work())
