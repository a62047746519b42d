"""One run: every part begins, stories are told side by side until a bound is reached, and every part cleans up."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from tools.load.call import Call
from tools.load.client import NoAnswerError, OffError, OverError
from tools.load.scenarios import PARTS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tools.load.scenarios import Part, Setting
    from tools.load.scenarios.scenario import Story

_UNLIKE = (AttributeError, KeyError, TypeError, ValueError)
"""What reading an answer raises that is not this service's."""


class Run:
    """The mix over all parts but those in `without`."""

    def __init__(self, setting: Setting, without: frozenset[str]) -> None:
        self._setting, self._client, self._choice = setting, setting.client, setting.choice
        self._without = without
        self._parts: list[Part] = []
        #: Stories that nobody has told yet.
        self._untold: list[tuple[Part, Story]] = []
        self.seconds = 0.0

    async def begin(self) -> None:
        """Make what is needed; OffError where the service is away. What else is missing is noted, and left out."""
        await self._client.need(Call("GET", "/health/live", role="nobody"))
        keyed = await self._admitted()
        for kind in PARTS:
            if kind.name in self._without or not (keyed or kind.keyless):
                continue
            part = kind(self._setting)
            self._parts.append(part)
            try:
                await part.begin()
            except OffError as error:
                self._note(f"{part.name} is left out: {error}")
                # What was made before that is removed at once.
                await self._safely(part, part.end)
                self._parts.remove(part)

    async def mix(self, concurrency: int, most: int, seconds: float) -> None:
        """Tell stories: each once, in a random order, then whichever."""
        self._untold = [(part, story) for part in self._parts for story in part.stories()]
        self._choice.shuffle(self._untold)
        client, began = self._client, time.monotonic()
        client.most, client.until, client.bounded = most, began + seconds, True
        try:
            await asyncio.gather(*(self._tell() for _ in range(concurrency)))
        finally:
            client.bounded = False
            self.seconds = time.monotonic() - began
        if self._untold and not (client.gone or client.stopped):
            self._note("a bound was reached before every endpoint was called: raise --requests or --seconds")
        for part in self._parts:
            await self._safely(part, part.last)

    async def end(self) -> None:
        """Remove what was made."""
        for part in reversed(self._parts):
            await self._safely(part, part.end)
        if self._client.gone:
            self._note(f"what the run has made could not be removed: names begin with load, of this run with load/{self._setting.run}")

    async def _admitted(self) -> bool:
        """Whether calls that need a key are of any use."""
        try:
            answer = await self._client.send(Call("GET", "/v1/models", role="admin", expects=frozenset({200, 401, 502, 503, 504})))
        except NoAnswerError:
            return True
        if answer.status != 401:
            return True
        given = "the key in ADMIN_KEY is refused" if self._client.admin_key else "the service asks for a key: set ADMIN_KEY"
        self._note(f"{given}; only what needs no key is called ({answer.why})")
        return False

    async def _tell(self) -> None:
        try:
            while self._parts:
                part, story = self._untold.pop() if self._untold else self._pick()
                await self._safely(part, story)
        except OverError:
            return

    def _pick(self) -> tuple[Part, Story]:
        (part,) = self._choice.choices(self._parts, [part.weight for part in self._parts])
        return part, self._choice.choice(part.stories())

    async def _safely(self, part: Part, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except NoAnswerError:
            pass  # it is in the ledger
        except _UNLIKE as error:
            self._client.faults[f"{part.name}: an answer is not as described: {type(error).__name__}: {error}"] += 1

    def _note(self, line: str) -> None:
        self._client.notes[line] += 1
