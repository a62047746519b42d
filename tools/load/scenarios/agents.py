"""Agents that register, send heartbeats, and do the tasks of load runs. A task of another client is put back at once."""

from __future__ import annotations

import asyncio
import contextlib

from tools.load import expected_metrics
from tools.load.client import NoAnswerError
from tools.load.request import Request
from tools.load.scenarios.scenario import Scenario, Step, among, json_request

_AGENTS = 4
_MOST_LEFT = 1000
_ONE = "/v1/agents/{agent}"
_OUTCOMES = ("success", "success", "success", "success", "error", "timeout", "cancelled")


class AgentsScenario(Scenario):
    """`/v1/agents` and `/v1/tasks`. The agents have the same names in every run, so that no run adds series."""

    name = "agents"
    weight = 2.0

    async def set_up(self) -> None:
        self._foreign = False
        await self.client.need(Request("GET", "/v1/agents", role="admin"))
        for number in range(_AGENTS):
            await self.client.need(json_request("POST", "/v1/agents", {"id": f"load-{number}"}, expects=among(201)))

    def steps(self) -> list[Step]:
        return [self.work, self.work, self.look, self.refusals]

    async def work(self) -> None:
        """Submit a task, let an agent do one, and look at it."""
        if self._foreign:
            return
        agent = self._agent()
        await self.client.send(json_request("POST", "/v1/tasks", {"input": {"load": self.context.run}}, expects=among(201)))
        number = await self._take(agent)
        if number is None:
            return
        await asyncio.sleep(self.choice.random() / 50)
        await self._report(agent, number, self.choice.choice(_OUTCOMES), expects=among(204))
        await self.client.send(Request("GET", f"/v1/tasks/{number}", "/v1/tasks/{task}", role="admin"))
        await self._report(agent, number, "success", expects=among(409))

    async def look(self) -> None:
        """Send a heartbeat, and list the agents."""
        agent = self._agent()
        await self.client.send(Request("POST", f"/v1/agents/{agent}/heartbeat", f"{_ONE}/heartbeat", role="admin", expects=among(204)))
        await self.client.send(Request("GET", "/v1/agents", role="admin"))

    async def refusals(self) -> None:
        """Use the ids of an unknown agent and an unknown task."""
        unknown = "load-not-registered"
        await self.client.send(Request("POST", f"/v1/agents/{unknown}/heartbeat", f"{_ONE}/heartbeat", role="admin", expects=among(404)))
        await self.client.send(Request("DELETE", f"/v1/agents/{unknown}", _ONE, role="admin", expects=among(404)))
        await self.client.send(Request("DELETE", "/v1/agents/NOT_ONE", _ONE, role="admin", expects=among(422)))
        await self.client.send(json_request("POST", "/v1/agents", {"id": "NOT ONE"}, expects=among(422)))
        await self.client.send(Request("GET", "/v1/tasks/9007199254740991", "/v1/tasks/{task}", role="admin", expects=among(404)))

    async def tear_down(self) -> None:
        for _ in range(_MOST_LEFT):
            number = None
            with contextlib.suppress(NoAnswerError):
                number = None if self._foreign else await self._take("load-0")
                if number is not None:
                    await self._report("load-0", number, "cancelled", expects=among(204))
            if number is None:
                break
        for number in range(_AGENTS):
            with contextlib.suppress(NoAnswerError):
                await self.client.send(Request("DELETE", f"/v1/agents/load-{number}", _ONE, role="admin", expects=among(204, 404)))

    def _agent(self) -> str:
        return f"load-{self.choice.randrange(_AGENTS)}"

    async def _take(self, agent: str) -> int | None:
        """Take a task of a load run for the agent; return its number, or None."""
        request = Request("POST", f"/v1/agents/{agent}/tasks", f"{_ONE}/tasks", role="admin", expects=among(200, 204))
        answer = await self.client.send(request)
        if answer.status != 200:
            return None
        task = answer.json()
        if isinstance(task["input"], dict) and task["input"].keys() == {"load"}:  # also of an earlier run that was killed
            return int(task["id"])
        # Removing the agent releases its tasks.
        self._foreign = True
        self.client.notes["agents: tasks of other clients are waiting; the run takes no more"] += 1
        await self.client.send(Request("DELETE", f"/v1/agents/{agent}", _ONE, role="admin", expects=among(204)))
        await self.client.send(json_request("POST", "/v1/agents", {"id": agent}, expects=among(201)))
        return None

    async def _report(self, agent: str, number: int, status: str, *, expects: frozenset[int]) -> None:
        path, endpoint = f"/v1/agents/{agent}/tasks/{number}/report", f"{_ONE}/tasks/{{task}}/report"
        given = {"status": status, "result": {"load": self.context.run}}
        await self.client.send(
            json_request("POST", path, given, endpoint=endpoint, expects=expects, moves=expected_metrics.reported(agent, status))
        )
