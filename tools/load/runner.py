"""One run: every scenario sets up, steps run concurrently until a bound is reached, and every scenario cleans up."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from tools.load.client import BoundReachedError, NoAnswerError, UnavailableError
from tools.load.request import Request
from tools.load.scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tools.load.scenarios import Context, Scenario
    from tools.load.scenarios.scenario import Step

_UNLIKE = (AttributeError, KeyError, TypeError, ValueError)
"""Raised by reading an answer that does not have the documented form."""


class Run:
    """The mix of all scenarios except those in `without`."""

    def __init__(self, context: Context, without: frozenset[str]) -> None:
        self._context, self._client, self._choice = context, context.client, context.choice
        self._without = without
        self._scenarios: list[Scenario] = []
        #: Steps that have not run yet.
        self._pending: list[tuple[Scenario, Step]] = []
        self.seconds = 0.0

    async def set_up(self) -> None:
        """Set up the scenarios, and leave out those that are not available; UnavailableError if the service is not."""
        await self._client.need(Request("GET", "/health/live", role="anonymous"))
        keyed = await self._admitted()
        for kind in SCENARIOS:
            if kind.name in self._without or not (keyed or kind.keyless):
                continue
            scenario = kind(self._context)
            self._scenarios.append(scenario)
            try:
                await scenario.set_up()
            except UnavailableError as error:
                self._note(f"{scenario.name} is left out: {error}")
                # Remove all that it has made so far.
                await self._safely(scenario, scenario.tear_down)
                self._scenarios.remove(scenario)

    async def mix(self, concurrency: int, most: int, seconds: float) -> None:
        """Run each step once, in a random order, then random ones until a bound is reached."""
        self._pending = [(scenario, step) for scenario in self._scenarios for step in scenario.steps()]
        self._choice.shuffle(self._pending)
        client, started = self._client, time.monotonic()
        client.most, client.until, client.bounded = most, started + seconds, True
        try:
            await asyncio.gather(*(self._work() for _ in range(concurrency)))
        finally:
            client.bounded = False
            self.seconds = time.monotonic() - started
        if self._pending and not (client.gone or client.stopped):
            self._note("a bound was reached before every endpoint was called: raise --requests or --seconds")
        for scenario in self._scenarios:
            await self._safely(scenario, scenario.last)

    async def tear_down(self) -> None:
        """Clean up."""
        for scenario in reversed(self._scenarios):
            await self._safely(scenario, scenario.tear_down)
        if self._client.gone:
            self._note(f"the run could not clean up: names that it made start with load, those of objects with load/{self._context.run}")

    async def _admitted(self) -> bool:
        """Return whether requests that need a key can succeed."""
        try:
            answer = await self._client.send(Request("GET", "/v1/models", role="admin", expects=frozenset({200, 401, 502, 503, 504})))
        except NoAnswerError:
            return True
        if answer.status != 401:
            return True
        given = "the service refuses the key in ADMIN_KEY" if self._client.admin_key else "the service requires a key: set ADMIN_KEY"
        self._note(f"{given}; only endpoints without a key are used ({answer.why})")
        return False

    async def _work(self) -> None:
        try:
            while self._scenarios:
                scenario, step = self._pending.pop() if self._pending else self._pick()
                await self._safely(scenario, step)
        except BoundReachedError:
            return

    def _pick(self) -> tuple[Scenario, Step]:
        (scenario,) = self._choice.choices(self._scenarios, [scenario.weight for scenario in self._scenarios])
        return scenario, self._choice.choice(scenario.steps())

    async def _safely(self, scenario: Scenario, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except NoAnswerError:
            pass  # the ledger has it
        except _UNLIKE as error:
            self._client.faults[f"{scenario.name}: an answer is not as documented: {type(error).__name__}: {error}"] += 1

    def _note(self, line: str) -> None:
        self._client.notes[line] += 1
