"""ΣVAULT's snapshots: taken, listed, deleted.

One is restored only with `--restore`, since it undoes what other clients stored since.
"""

from __future__ import annotations

from tools.load import expected_metrics
from tools.load.request import Request
from tools.load.scenarios.scenario import Scenario, Step, among

_ALL = "/v1/vault/snapshots"
_ONE = f"{_ALL}/{{snapshot}}"


class SnapshotsScenario(Scenario):
    """`/v1/vault/snapshots`."""

    name = "snapshots"
    route = _ONE
    weight = 0.5

    async def set_up(self) -> None:
        await self.client.need(Request("GET", _ALL, role="admin"))

    def steps(self) -> list[Step]:
        return [self.life, self.refusals]

    async def life(self) -> None:
        """Take a snapshot, find it, delete it."""
        made = await self._take()
        await self.client.send(Request("GET", _ALL, role="admin"))
        if made is not None:
            await self.remove(made)

    async def refusals(self) -> None:
        """Delete and restore an unknown snapshot."""
        await self.client.send(Request("DELETE", f"{_ALL}/none", _ONE, role="admin", expects=among(404)))
        await self.client.send(Request("POST", f"{_ALL}/none/restore", f"{_ONE}/restore", role="admin", expects=among(404)))

    async def last(self) -> None:
        if not self.context.restore:
            return
        made = await self._take()
        if made is not None:
            request = Request(
                "POST", f"{_ALL}/{made}/restore", f"{_ONE}/restore", role="admin", expects=among(200, 202), moves=expected_metrics.restored
            )
            await self.client.send(request)

    async def _take(self) -> str | None:
        answer = await self.client.send(Request("POST", _ALL, role="admin", expects=among(201), moves=expected_metrics.backup))
        if answer.status != 201:
            return None
        made: str = answer.json()["id"]
        self.made.add(made)
        return made
