"""What every part of the mix is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tools.load.call import JSON, OK, Call, Moves, sent_json

if TYPE_CHECKING:
    import random

    from tools.load.call import Role
    from tools.load.client import Client

Story = Callable[[], Awaitable[None]]


@dataclass
class Setting:
    """What all parts share."""

    client: Client
    choice: random.Random
    #: A word that no other run has, in the names of what is made.
    run: str
    #: Seconds that a slow call takes at least.
    slow: float
    restore: bool = False
    model: str | None = None


class Part:
    """One part of the service. Its stories may run at once, also the same one."""

    name: ClassVar[str]
    #: How often its stories are told, beside those of others.
    weight: ClassVar[float] = 1.0
    #: Whether it works with no key at all.
    keyless: ClassVar[bool] = False

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.client = setting.client
        self.choice = setting.choice

    async def begin(self) -> None:
        """Make what the stories need; OffError where this part is not there."""

    def stories(self) -> list[Story]:
        """Give the stories; all together they call every endpoint of the part."""
        raise NotImplementedError

    async def end(self) -> None:
        """Remove what was made."""

    async def last(self) -> None:
        """Do what has to be done alone, between the mix and the end."""


def with_json(
    method: str,
    path: str,
    value: object,
    *,
    endpoint: str = "",
    role: Role = "admin",
    expects: frozenset[int] = OK,
    moves: Moves | None = None,
) -> Call:
    """Make a call with a body of JSON."""
    return Call(method, path, endpoint, sent_json(value), JSON, role, expects, moves)


def among(*statuses: int) -> frozenset[int]:
    """Name the statuses that are expected."""
    return frozenset(statuses)
