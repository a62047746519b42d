"""Random users, workers and clocks, and deaths before any statement, against a plain model: the real tables and the real transactions."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shutil
import tempfile
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from sqlalchemy import event, select

from app.store import activity, migrator
from app.store import clock as database_clock
from app.store.database import Database
from app.store.database_url import DatabaseLocation
from app.store.models import Activity
from monitoring import users
from monitoring.multiprocess import shared_state
from monitoring.users import Table, Taken, dead
from tests.multiprocess.simulated_workers import no_lease

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncSession

WINDOW = 100
BOUNDS = (1, 2, 5, 10)
SURVIVES = 1000
WORKERS = st.integers(0, 2)
NOTED = st.lists(st.integers(1, 4), min_size=1, max_size=6)
# Before so many statements, the commit not counted, the one who works is killed.
STATEMENTS = st.sampled_from([SURVIVES, SURVIVES, 1, 2, 3, 4, 5])


class KilledError(BaseException):
    """Nothing after it is done: the transaction is not kept, and nobody tidies up."""


@functools.cache
def template() -> bytes:
    with tempfile.TemporaryDirectory(prefix="neurectomy-test-") as folder:
        place = DatabaseLocation.of_file(Path(folder) / "neurectomy.db")
        asyncio.run(migrator.upgrade(place))
        assert place.path is not None
        return place.path.read_bytes()


class Machine(RuleBasedStateMachine):
    """Three workers, and elected ones that come and go, on one database."""

    @initialize()
    def begin(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.directory = Path(tempfile.mkdtemp(prefix="neurectomy-test-", dir="/dev/shm"))
        self.now = 100_000.0
        clock = types.SimpleNamespace(time=lambda: self.now, monotonic=lambda: self.now)
        self.patch.setattr(shared_state, "store", no_lease(self.directory))
        self.patch.setattr(users, "metrics_directory", lambda: self.directory)
        self.patch.setattr(users, "time", clock)
        self.patch.setattr(activity, "time", clock)
        self.patch.setattr(database_clock, "time", clock)
        (self.directory / "neurectomy.db").write_bytes(template())
        self.loop = asyncio.new_event_loop()
        self.database = Database(DatabaseLocation.of_file(self.directory / "neurectomy.db"))
        self.left = SURVIVES
        event.listen(self.loop.run_until_complete(self.database._opened()).sync_engine, "before_cursor_execute", self.count)
        self.tables = [Table(WINDOW) for _ in range(3)]
        # The model: who asked how often in all, and when last by a clock that never was put back since.
        self.requests: dict[int, int] = {}
        self.last: dict[int, float] = {}
        self.there = 0

    def count(self, *_: Any) -> None:
        self.left -= 1
        if self.left < 0:
            raise KilledError

    def within(self, work: Callable[[AsyncSession], Awaitable[Any]], statements: int = SURVIVES) -> Any:
        async def done() -> Any:
            async with self.database.writing() as session:
                self.left = statements
                try:
                    return await work(session)
                finally:
                    self.left = SURVIVES

        return self.loop.run_until_complete(done())

    def keep(self, taken: Taken, statements: int = SURVIVES) -> None:
        self.within(lambda session: activity.take(session, taken, WINDOW), statements)

    def die(self, worker: int) -> None:
        self.tables[worker].close()
        self.tables[worker] = Table(WINDOW)

    @rule(worker=WORKERS, noted=NOTED, moved=st.booleans())
    def note(self, worker: int, noted: list[int], moved: bool) -> None:
        for user in noted:
            self.tables[worker].note(user)
            self.requests[user] = self.requests.get(user, 0) + 1
            self.last[user] = self.now
        if moved:
            self.move_all()

    @rule(worker=WORKERS, noted=NOTED, statements=STATEMENTS, emptied=st.booleans())
    def move(self, worker: int, noted: list[int], statements: int, emptied: bool) -> None:
        """A worker is killed within the transaction, or after it and before it has emptied the half, or not at all."""
        self.note(worker, noted, moved=False)
        taken = self.tables[worker].take()
        assert taken is not None
        try:
            self.keep(taken, statements)
        except KilledError:
            self.die(worker)
        else:
            self.tables[worker].emptied(taken) if emptied else self.die(worker)

    @rule(worker=WORKERS, noted=NOTED, statements=STATEMENTS, moved=st.booleans())
    def move_of_the_dead(self, worker: int, noted: list[int], statements: int, moved: bool) -> None:
        """Who moves what a dead worker has left is killed as well."""
        self.note(worker, noted, moved=False)
        self.die(worker)
        with contextlib.suppress(KilledError), contextlib.closing(dead()) as halves:  # type: ignore[type-var]
            for taken in halves:
                self.keep(taken, statements)
        if moved:
            self.move_all()

    @rule(seconds=st.sampled_from([0.0, 150.0, 400.0]), statements=STATEMENTS)
    def close(self, seconds: float, statements: int) -> None:
        """Who closes the windows is killed, and another does it."""
        self.now += seconds
        with contextlib.suppress(KilledError):
            self.within(lambda session: activity.close(session, BOUNDS, WINDOW), statements)
        self.check(all_in=False)

    @rule(seconds=st.sampled_from([1.0, 60.0, 50_000.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(worker=WORKERS, noted=NOTED, seconds=st.sampled_from([5.0, 70.0, 250.0, 40_000.0]), statements=STATEMENTS)
    def put_the_clock_back(self, worker: int, noted: list[int], seconds: float, statements: int) -> None:
        self.now -= min(seconds, self.now - 1000.0)
        self.last = {}
        self.close(0.0, statements)
        self.note(worker, noted, moved=True)

    @rule()
    def move_all(self) -> None:
        """Everybody moves what there is."""
        for table in self.tables:
            while (taken := table.take()) is not None:
                self.keep(taken)
                table.emptied(taken)
        for taken in dead():
            self.keep(taken)
        self.check(all_in=True)

    async def sums(self, session: AsyncSession) -> tuple[activity.Figures, dict[tuple[int, int], int]]:
        rows = {(row.window, row.user): row.requests for row in await session.scalars(select(Activity))}
        return await activity.figures(session), rows

    def check(self, *, all_in: bool) -> None:
        """Each request is there once, at the latest when all are moved; whoever asked in the last five minutes is active."""
        figures, rows = self.within(self.sums)
        assert all(requests > 0 for requests in rows.values())
        there, noted = figures.requests + sum(rows.values()), sum(self.requests.values())
        assert self.there <= there <= noted, "none is lost again, none is there twice"
        self.there = there
        if all_in:
            assert there == noted
            recent = sum(moment > self.now - activity.ACTIVE_SECONDS for moment in self.last.values())
            assert recent <= figures.active_users <= len(self.requests)

    def teardown(self) -> None:
        if not hasattr(self, "tables"):
            return
        try:
            self.move_all()
            # Whatever the clock did, two windows later all are closed.
            before = self.within(self.sums)
            for _ in range(2):
                self.within(lambda session: activity.close(session, BOUNDS, WINDOW))
                self.now += 2 * WINDOW + activity.GRACE_SECONDS
            self.within(lambda session: activity.close(session, BOUNDS, WINDOW))
            figures, rows = self.within(self.sums)
            assert rows == {}
            assert figures.requests == sum(self.requests.values())
            assert sum(figures.users.values()) <= sum(before[0].users.values()) + len(before[1])
            assert sum(figures.users.values()) >= len(self.requests), "each user is an observation at least"
        finally:
            for table in self.tables:
                table.close()
            self.loop.run_until_complete(self.database.close())
            self.loop.close()
            self.patch.undo()
            shutil.rmtree(self.directory)


Machine.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestModel = Machine.TestCase
