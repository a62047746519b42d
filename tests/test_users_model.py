"""Random notes, takings, deaths at any step and clocks, against a plain model: every request of every user is in the database once."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import time
import types
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from monitoring import users
from monitoring.multiprocess import shared_state
from monitoring.users import Table, Taken, dead
from tests.multiprocess.simulated_workers import no_lease

if TYPE_CHECKING:
    from collections import abc

WINDOW = 100
WORKERS = st.integers(0, 2)


class Machine(RuleBasedStateMachine):
    """Workers are tables of one process, each with a lock of its own."""

    @initialize()
    def begin(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.directory = Path(tempfile.mkdtemp(prefix="neurectomy-test-", dir="/dev/shm"))
        self.now = 1000.0
        self.patch.setattr(shared_state, "store", no_lease(self.directory))
        self.patch.setattr(users, "metrics_directory", lambda: self.directory)
        self.patch.setattr(users, "time", types.SimpleNamespace(time=lambda: self.now, monotonic=time.monotonic))
        self.tables = [Table(WINDOW) for _ in range(3)]
        self.taking: list[Taken | None] = [None] * 3
        self.kept: list[bool] = [False] * 3
        # The model.
        self.noted: dict[tuple[int, int], int] = {}
        self.database: dict[tuple[int, int], int] = {}
        self.halves: dict[int, int] = {}

    def keep(self, taken: Taken) -> None:
        """One transaction."""
        if self.halves.get(taken.table, 0) < taken.half:
            self.halves[taken.table] = taken.half
            for note in taken.notes:
                place = note.user, note.window
                self.database[place] = self.database.get(place, 0) + note.requests

    @rule(worker=WORKERS, notes=st.lists(st.integers(1, 6), min_size=1, max_size=12))
    def note(self, worker: int, notes: list[int]) -> None:
        table = self.tables[worker]
        for user in notes:
            lost = table.lost
            table.note(user)
            if table.lost == lost:
                place = user, int(self.now // WINDOW)
                self.noted[place] = self.noted.get(place, 0) + 1

    @rule(worker=WORKERS)
    def take(self, worker: int) -> None:
        found = self.tables[worker].take()
        if self.taking[worker] is not None:
            assert found == self.taking[worker], "until it is emptied it is the same"
        self.taking[worker] = found

    @rule(worker=WORKERS)
    def keep_taken(self, worker: int) -> None:
        if (taken := self.taking[worker]) is not None:
            self.keep(taken)
            self.kept[worker] = True

    @rule(worker=WORKERS)
    def empty(self, worker: int) -> None:
        if (taken := self.taking[worker]) is not None and self.kept[worker]:
            self.tables[worker].emptied(taken)
            self.taking[worker], self.kept[worker] = None, False

    @rule(worker=WORKERS)
    def kill(self, worker: int) -> None:
        """Its mapping and its lock go; what it was doing is not finished."""
        self.tables[worker].close()
        self.tables[worker] = Table(WINDOW)
        self.taking[worker], self.kept[worker] = None, False

    @rule(stop=st.integers(0, 3))
    def take_of_the_dead(self, stop: int) -> None:
        """Whoever does it is killed after so many halves, before the last one is emptied."""
        for number, taken in enumerate(self._of_the_dead()):
            self.keep(taken)
            if number == stop:
                break

    @rule(seconds=st.sampled_from([1.0, 60.0, 150.0, -70.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    def _of_the_dead(self) -> abc.Iterator[Taken]:
        return dead()

    def teardown(self) -> None:
        if not hasattr(self, "tables"):
            return
        for worker, table in enumerate(self.tables):
            if worker:
                for _ in range(3):  # both halves, and nothing
                    taken = table.take()
                    if taken is not None:
                        self.keep(taken)
                        table.emptied(taken)
            table.close()
        for taken in itertools.islice(self._of_the_dead(), 20):
            self.keep(taken)
        left = list(self.directory.glob("*.users"))
        self.patch.undo()
        shutil.rmtree(self.directory)
        assert self.database == self.noted
        assert left == []


Machine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestModel = Machine.TestCase
