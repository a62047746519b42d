"""Probes, as an orchestrator sends them."""

from __future__ import annotations

from tools.load.call import Call
from tools.load.scenarios.scenario import Part, Story


class Health(Part):
    """`/health`."""

    name = "health"
    keyless = True

    def stories(self) -> list[Story]:
        return [self.live, self.ready]

    async def live(self) -> None:
        """Ask whether it lives."""
        await self.client.send(Call("GET", "/health/live", role="nobody"))

    async def ready(self) -> None:
        """Ask whether it is ready."""
        await self.client.send(Call("GET", "/health/ready", role="nobody"))
