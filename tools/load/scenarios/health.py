"""The probes of an orchestrator."""

from __future__ import annotations

from tools.load.request import Request
from tools.load.scenarios.scenario import Scenario, Step


class HealthScenario(Scenario):
    """`/health`."""

    name = "health"
    keyless = True

    def steps(self) -> list[Step]:
        return [self.live, self.ready]

    async def live(self) -> None:
        """Send a liveness probe."""
        await self.client.send(Request("GET", "/health/live", role="anonymous"))

    async def ready(self) -> None:
        """Send a readiness probe."""
        await self.client.send(Request("GET", "/health/ready", role="anonymous"))
