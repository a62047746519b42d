"""Prices of an endpoint and a model that nobody uses, and what was billed."""

from __future__ import annotations

import contextlib
import time

from tools.load.call import Call
from tools.load.client import NoAnswerError
from tools.load.scenarios.scenario import Part, Story, among, with_json


class Prices(Part):
    """`/v1/prices` and `/v1/usage`."""

    name = "prices"

    async def begin(self) -> None:
        self._made: set[int] = set()
        await self.client.need(Call("GET", "/v1/prices", role="admin"))

    def stories(self) -> list[Story]:
        return [self.life, self.usage, self.refusals]

    async def life(self) -> None:
        """Set a price, find it, remove it."""
        model = f"{self.setting.run}-{self.choice.randrange(10**6)}"
        wanted = {"endpoint": "/v1/load", "model": model, "prompt": "0.25", "generated": "1.5"}
        answer = await self.client.send(with_json("PUT", "/v1/prices", wanted))
        if answer.status != 200:
            return
        number = answer.json()["id"]
        self._made.add(number)
        await self.client.send(Call("GET", "/v1/prices", role="admin"))
        await self._remove(number)

    async def usage(self) -> None:
        """Add up the last hour."""
        await self.client.send(Call("GET", f"/v1/usage?since={time.time() - 3600:.0f}", "/v1/usage", role="admin"))

    async def refusals(self) -> None:
        """Send what is refused."""
        await self.client.send(with_json("PUT", "/v1/prices", {"prompt": "cheap", "generated": "1"}, expects=among(422)))
        await self.client.send(Call("GET", "/v1/usage?since=yesterday", role="admin", expects=among(422)))
        await self.client.send(Call("DELETE", "/v1/prices/2147483647", "/v1/prices/{number}", role="admin", expects=among(404)))

    async def end(self) -> None:
        for number in sorted(self._made):
            with contextlib.suppress(NoAnswerError):
                await self._remove(number)

    async def _remove(self, number: int) -> None:
        call = Call("DELETE", f"/v1/prices/{number}", "/v1/prices/{number}", role="admin", expects=among(204))
        if (await self.client.send(call)).status == 204:
            self._made.discard(number)
