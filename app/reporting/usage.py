"""The metrics of users, keys and costs, read from the database by one elected process of the instance.

Each worker notes its users' requests in a table that survives it, and moves the notes into the database every second. The elected
process moves those of dead workers. It shows totals of the database, so that every instance on that database shows the same. One of
these processes, elected again in the database, closes the windows.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import uuid
from collections import defaultdict
from typing import TYPE_CHECKING

from app import store
from app.store.errors import StoreError
from monitoring import metrics, users
from monitoring.multiprocess import metrics_directory, read_samples

from . import eligibility
from .elected_task import ElectedTask

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from app.store.activity import Figures
    from app.store.database import Database
    from monitoring.multiprocess import Election

_ELECTED_SECONDS = 3.0
_MOST_HASHES = 10_000
_HISTOGRAM = "neurectomy_requests_per_user"


class Business(ElectedTask):
    """The users that this worker has seen, and, where it is elected, the figures of all users."""

    role = "business"
    every_seconds = 1.0
    expected_error = StoreError
    failure = "users and costs are not shown"
    log = logging.getLogger("neurectomy.business")

    def __init__(self, database: Database, window_seconds: int) -> None:
        """Start nothing before `running`. A window of users' requests lasts `window_seconds`."""
        self._database = database
        self._table = users.Table(window_seconds)
        self._lost = 0
        self._key = b""
        self._hashes: dict[int, int] = {}
        self._holder = ""
        self._endpoints: set[str] = set()
        self._shown: tuple[dict[int, int], int] | None = None

    async def seen(self, user: int) -> None:
        """Note a request of this user."""
        known = self._hashes.get(user)
        try:
            self._table.note(await self._hash(user) if known is None else known)
        except StoreError:  # the first one, and the database has just gone
            self._table.lost += 1
        if self._table.lost > self._lost:
            metrics.users_unnoted_requests.inc(self._table.lost - self._lost)
            self._lost = self._table.lost

    async def _hash(self, user: int) -> int:
        if not self._key:
            self._key = await self._read_key()
        if len(self._hashes) >= _MOST_HASHES:
            self._hashes.clear()
        known = self._hashes[user] = users.hashed(str(user), self._key)
        return known

    async def _read_key(self) -> bytes:
        """Read the key, and write one only where there is none: a writer may have to wait."""
        async with self._database.reading() as session:
            known = await store.activity.known_key(session)
        if known is not None:
            return known
        async with self._database.writing() as session:
            return await store.activity.key(session)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Add and show every second until the block ends, then add the rest."""
        self._holder = uuid.uuid4().hex
        try:
            async with super().running():
                yield
        finally:
            with contextlib.suppress(StoreError):
                await self._add()
            self._table.close()

    def elected(self, election: Election) -> bool:
        return eligibility.elected(self._database, election)

    async def every_turn(self) -> None:
        await self._add()

    async def turn(self) -> None:
        await self._add_of_the_dead()
        await self._show()

    async def withdraw(self) -> None:
        if self._election is not None and self._election.held:
            for gauge in (metrics.active_users, metrics.api_keys_active, *map(metrics.cost_per_request.labels, self._endpoints)):
                gauge.set(math.nan)

    async def _add(self) -> None:
        """Move this worker's notes into the database: both halves of its table, of which one may be half moved."""
        for _ in range(2):  # both halves; later notes wait for the next round
            if (taken := self._table.take()) is not None:
                await self._keep(taken)
                self._table.emptied(taken)

    async def _add_of_the_dead(self) -> None:
        for taken in users.dead():
            await self._keep(taken)

    async def _keep(self, taken: users.Taken) -> None:
        async with self._database.writing() as session:
            await store.activity.take(session, taken, self._table.window_seconds)

    async def _show(self) -> None:
        bounds = metrics.requests_per_user._kwargs["buckets"]
        async with self._database.writing() as session:
            if await store.activity.elect(session, self.role, self._holder, _ELECTED_SECONDS):
                await store.activity.close(session, bounds, self._table.window_seconds)
            figures = await store.activity.figures(session)
        metrics.active_users.set(figures.active_users)
        metrics.api_keys_active.set(figures.active_keys)
        self._endpoints |= figures.costs.keys()
        for endpoint in self._endpoints:
            cost, calls = figures.costs.get(endpoint, (0, 0))
            metrics.cost_per_request.labels(endpoint).set(cost / calls / 1e12 if calls else 0.0)
        if (figures.users, figures.requests) != self._shown:
            await _ended(asyncio.get_running_loop().run_in_executor(None, _catch_up, figures))
            self._shown = (figures.users, figures.requests)


async def _ended(work: asyncio.Future[None]) -> None:
    """Wait for work in a thread, even if this task is cancelled: the next elected process must not find it half done."""
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


def _catch_up(figures: Figures) -> None:
    """Add to this worker's histogram the difference between the database's totals and the sum over all workers.

    The additions of a former elected process stay in its file, so the files are read. If it was killed half way, the rest follows now.
    """
    if metrics_directory() is None:
        return
    histogram = metrics.requests_per_user
    users: defaultdict[float, float] = defaultdict(float)
    requests = 0.0
    for sample in read_samples(_HISTOGRAM):
        if "le" in sample.labels:
            users[float(sample.labels["le"])] += sample.value
        elif sample.name.endswith("_sum"):
            requests += sample.value
    for bucket, (bound, cell) in enumerate(zip(histogram._upper_bounds, histogram._buckets, strict=True)):
        if (missing := figures.users.get(bucket, 0) - users[bound]) > 0:
            cell.inc(missing)
    if (missing := figures.requests - requests) > 0:
        histogram._sum.inc(missing)
