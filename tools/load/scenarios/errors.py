"""What strangers and careless programs send: paths and methods that are none, no key, a wrong key."""

from __future__ import annotations

from tools.load import expected_metrics
from tools.load.call import Call
from tools.load.scenarios.scenario import Part, Story, among, with_json

_NO_KEY = among(200, 401)
"""Where no key is required, everybody is served."""


class Errors(Part):
    """Errors that belong to no integration."""

    name = "errors"
    weight = 2.0
    keyless = True

    def stories(self) -> list[Story]:
        return [self.nowhere, self.wrong_method, self.elsewhere, self.no_key, self.wrong_key, self.no_key_for_work]

    async def nowhere(self) -> None:
        """Ask for paths that do not exist."""
        for path in ("/", f"/v2/{self.choice.randrange(10**6)}", "/.env", "/v1/agents/%2e%2e/x/y"):
            await self.client.send(Call("GET", path, "_unmatched", role="nobody", expects=among(404)))

    async def wrong_method(self) -> None:
        """Use methods that a path does not have."""
        await self.client.send(Call("GET", "/v1/compress", role="nobody", expects=among(405)))
        await self.client.send(Call("DELETE", "/v1/completions", role="nobody", expects=among(405)))
        await self.client.send(Call("HEAD", "/health/live", role="nobody", expects=among(405)))

    async def elsewhere(self) -> None:
        """Ask with a slash too many, and do not follow the redirect."""
        await self.client.send(Call("GET", "/health/live/", "_redirect", role="nobody", expects=among(307)))

    async def no_key(self) -> None:
        """Ask without a key."""
        await self.client.send(Call("GET", "/v1/models", role="nobody", expects=_NO_KEY))
        await self.client.send(Call("GET", "/v1/keys", role="nobody", expects=_NO_KEY))

    async def wrong_key(self) -> None:
        """Ask with a key that nobody has."""
        await self.client.send(Call("GET", "/v1/models", role="stranger", expects=_NO_KEY))
        await self.client.send(Call("GET", "/v1/prices", role="stranger", expects=_NO_KEY))

    async def no_key_for_work(self) -> None:
        """Ask for work without a key."""
        document = b"some bytes " * 10
        moves = expected_metrics.compression(len(document))
        await self.client.send(Call("POST", "/v1/compress", body=document, role="nobody", expects=_NO_KEY, moves=moves))
        moves = expected_metrics.model_call("", 0, 0)
        unknown = {"model": "no-such-model", "prompt": "A"}
        await self.client.send(with_json("POST", "/v1/completions", unknown, role="nobody", expects=among(401, 404), moves=moves))
