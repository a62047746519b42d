"""ΣVAULT's snapshots: taken, listed, deleted.

One is restored only where that was asked for, since it undoes what others store meanwhile.
"""

from __future__ import annotations

import contextlib

from tools.load import expected_metrics
from tools.load.call import Call
from tools.load.client import NoAnswerError
from tools.load.scenarios.scenario import Part, Story, among

_ALL = "/v1/vault/snapshots"
_ONE = f"{_ALL}/{{snapshot}}"


class Snapshots(Part):
    """`/v1/vault/snapshots`."""

    name = "snapshots"
    weight = 0.5

    async def begin(self) -> None:
        self._made: set[str] = set()
        await self.client.need(Call("GET", _ALL, role="admin"))

    def stories(self) -> list[Story]:
        return [self.life, self.refusals]

    async def life(self) -> None:
        """Take a snapshot, find it, delete it."""
        made = await self._take()
        await self.client.send(Call("GET", _ALL, role="admin"))
        if made is not None:
            await self._delete(made)

    async def refusals(self) -> None:
        """Ask for what is none."""
        await self.client.send(Call("DELETE", f"{_ALL}/none", _ONE, role="admin", expects=among(404)))
        await self.client.send(Call("POST", f"{_ALL}/none/restore", f"{_ONE}/restore", role="admin", expects=among(404)))

    async def last(self) -> None:
        if not self.setting.restore:
            return
        made = await self._take()
        if made is not None:
            call = Call(
                "POST", f"{_ALL}/{made}/restore", f"{_ONE}/restore", role="admin", expects=among(200, 202), moves=expected_metrics.restored
            )
            await self.client.send(call)

    async def end(self) -> None:
        for made in sorted(self._made):
            with contextlib.suppress(NoAnswerError):
                await self._delete(made)

    async def _take(self) -> str | None:
        answer = await self.client.send(Call("POST", _ALL, role="admin", expects=among(201), moves=expected_metrics.backup))
        if answer.status != 201:
            return None
        made: str = answer.json()["id"]
        self._made.add(made)
        return made

    async def _delete(self, made: str) -> None:
        answer = await self.client.send(Call("DELETE", f"{_ALL}/{made}", _ONE, role="admin", expects=among(204)))
        if answer.status == 204:
            self._made.discard(made)
