"""Requests of scanners and careless clients: unknown paths, wrong methods, no key, an unknown key."""

from __future__ import annotations

from tools.load import expected_metrics
from tools.load.request import Request
from tools.load.scenarios.scenario import Scenario, Step, among, json_request

_NO_KEY = among(200, 401)
"""A service that requires no key answers 200."""


class ErrorsScenario(Scenario):
    """Errors that belong to no integration."""

    name = "errors"
    weight = 2.0
    keyless = True

    def steps(self) -> list[Step]:
        return [self.nowhere, self.wrong_method, self.elsewhere, self.no_key, self.wrong_key, self.no_key_for_work]

    async def nowhere(self) -> None:
        """Ask for paths that do not exist."""
        for path in ("/", f"/v2/{self.choice.randrange(10**6)}", "/.env", "/v1/agents/%2e%2e/x/y"):
            await self.client.send(Request("GET", path, "_unmatched", role="anonymous", expects=among(404)))

    async def wrong_method(self) -> None:
        """Use methods that a path does not have."""
        await self.client.send(Request("GET", "/v1/compress", role="anonymous", expects=among(405)))
        await self.client.send(Request("DELETE", "/v1/completions", role="anonymous", expects=among(405)))
        await self.client.send(Request("HEAD", "/health/live", role="anonymous", expects=among(405)))

    async def elsewhere(self) -> None:
        """Add a slash to a path, and do not follow the redirect."""
        await self.client.send(Request("GET", "/health/live/", "_redirect", role="anonymous", expects=among(307)))

    async def no_key(self) -> None:
        """Ask without a key."""
        await self.client.send(Request("GET", "/v1/models", role="anonymous", expects=_NO_KEY))
        await self.client.send(Request("GET", "/v1/keys", role="anonymous", expects=_NO_KEY))

    async def wrong_key(self) -> None:
        """Ask with an unknown key."""
        await self.client.send(Request("GET", "/v1/models", role="unknown_key", expects=_NO_KEY))
        await self.client.send(Request("GET", "/v1/prices", role="unknown_key", expects=_NO_KEY))

    async def no_key_for_work(self) -> None:
        """Ask for work without a key."""
        document = b"some bytes " * 10
        moves = expected_metrics.compression(len(document))
        await self.client.send(Request("POST", "/v1/compress", body=document, role="anonymous", expects=_NO_KEY, moves=moves))
        moves = expected_metrics.model_call("", 0, 0)
        unknown = {"model": "no-such-model", "prompt": "A"}
        await self.client.send(json_request("POST", "/v1/completions", unknown, role="anonymous", expects=among(401, 404), moves=moves))
