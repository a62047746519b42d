"""Prices of an endpoint and a model without any other user, and the usage report."""

from __future__ import annotations

import time

from tools.load.request import Request
from tools.load.scenarios.scenario import Scenario, Step, among, json_request


class PricesScenario(Scenario):
    """`/v1/prices` and `/v1/usage`."""

    name = "prices"
    route = "/v1/prices/{number}"

    async def set_up(self) -> None:
        await self.client.need(Request("GET", "/v1/prices", role="admin"))

    def steps(self) -> list[Step]:
        return [self.life, self.usage, self.refusals]

    async def life(self) -> None:
        """Set a price, find it, remove it."""
        model = f"{self.context.run}-{self.choice.randrange(10**6)}"
        wanted = {"endpoint": "/v1/load", "model": model, "prompt": "0.25", "generated": "1.5"}
        answer = await self.client.send(json_request("PUT", "/v1/prices", wanted))
        if answer.status != 200:
            return
        number = answer.json()["id"]
        self.made.add(number)
        await self.client.send(Request("GET", "/v1/prices", role="admin"))
        await self.remove(number)

    async def usage(self) -> None:
        """Add up the last hour."""
        await self.client.send(Request("GET", f"/v1/usage?since={time.time() - 3600:.0f}", "/v1/usage", role="admin"))

    async def refusals(self) -> None:
        """Send requests that are refused."""
        await self.client.send(json_request("PUT", "/v1/prices", {"prompt": "cheap", "generated": "1"}, expects=among(422)))
        await self.client.send(Request("GET", "/v1/usage?since=yesterday", role="admin", expects=among(422)))
        await self.client.send(Request("DELETE", "/v1/prices/2147483647", "/v1/prices/{number}", role="admin", expects=among(404)))
