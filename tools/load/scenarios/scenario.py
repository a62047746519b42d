"""The base of all scenarios."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tools.load.client import NoAnswerError
from tools.load.request import JSON, OK, Moves, Request, encode_json

if TYPE_CHECKING:
    import random

    from tools.load.client import Client
    from tools.load.request import Role

Step = Callable[[], Awaitable[None]]


@dataclass
class Context:
    """Shared by all scenarios."""

    client: Client
    choice: random.Random
    #: A word for the names that this run makes; no other run has it.
    run: str
    #: The least seconds of a slow request.
    slow: float
    restore: bool = False
    model: str | None = None


class Scenario:
    """One part of the service. Its steps run concurrently, also with themselves."""

    name: ClassVar[str]
    #: How often its steps run, relative to those of other scenarios.
    weight: ClassVar[float] = 1.0
    #: Whether it works without a key.
    keyless: ClassVar[bool] = False
    #: The route of one thing that the scenario makes.
    route: ClassVar[str] = ""

    def __init__(self, context: Context) -> None:
        self.made: set[int | str] = set()
        self.context = context
        self.client = context.client
        self.choice = context.choice

    async def set_up(self) -> None:
        """Prepare the steps; UnavailableError if the service does not have this part."""

    def steps(self) -> list[Step]:
        """Return the steps; together they use every endpoint of the part."""
        raise NotImplementedError

    async def tear_down(self) -> None:
        """Remove all that the scenario made."""
        for made in sorted(self.made, key=str):
            with contextlib.suppress(NoAnswerError):
                await self.remove(made)

    async def remove(self, made: int | str) -> None:
        """Remove one thing that the scenario made."""
        path = re.sub(r"{\w+}", str(made), self.route)
        if (await self.client.send(Request("DELETE", path, self.route, role="admin", expects=among(204)))).status == 204:
            self.made.discard(made)

    async def last(self) -> None:
        """Send the requests that cannot run concurrently with others. Called before `tear_down`."""


def json_request(
    method: str,
    path: str,
    value: object,
    *,
    endpoint: str = "",
    role: Role = "admin",
    expects: frozenset[int] = OK,
    moves: Moves | None = None,
) -> Request:
    """Return a request with a JSON body."""
    return Request(method, path, endpoint, encode_json(value), JSON, role, expects, moves)


def among(*statuses: int) -> frozenset[int]:
    """Return the set of these statuses."""
    return frozenset(statuses)
