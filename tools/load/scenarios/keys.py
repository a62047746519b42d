"""Keys and users: made, listed, revoked. The other scenarios use the keys that this one makes."""

from __future__ import annotations

from tools.load.request import JSON, Request
from tools.load.scenarios.scenario import Scenario, Step, among, json_request

_USERS = 8
_HOUR_SECONDS = 3600
"""A key that could not be revoked expires."""


class KeysScenario(Scenario):
    """`/v1/keys` and `/v1/users`. Users stay, with the same names in every run; their keys are revoked."""

    name = "keys"
    route = "/v1/keys/{number}"

    async def set_up(self) -> None:
        await self.client.need(Request("GET", "/v1/keys", role="admin"))
        for number in range(_USERS):
            wanted = {"user": f"load-user-{number}", "expires_in": _HOUR_SECONDS}
            answer = await self.client.need(json_request("POST", "/v1/keys", wanted, expects=among(201)))
            made = answer.json()
            self.made.add(made["id"])
            self.client.user_keys.append(made["key"])

    def steps(self) -> list[Step]:
        return [self.life, self.people, self.refusals]

    async def life(self) -> None:
        """Make a key, find it, revoke it, and revoke it once more."""
        wanted = {"user": f"load-user-{self.choice.randrange(_USERS)}", "expires_in": 600}
        answer = await self.client.send(json_request("POST", "/v1/keys", wanted, expects=among(201)))
        if answer.status != 201:
            return
        number = answer.json()["id"]
        self.made.add(number)
        await self.client.send(Request("GET", f"/v1/keys?after={number - 1}&limit=10", role="admin"))
        await self.remove(number)
        await self.client.send(Request("DELETE", "/v1/keys/2147483647", "/v1/keys/{number}", role="admin", expects=among(404)))

    async def people(self) -> None:
        """List users, and set the role of one to its present role."""
        await self.client.send(Request("GET", "/v1/users", role="admin"))
        name = f"load-user-{self.choice.randrange(_USERS)}"
        await self.client.send(json_request("PATCH", f"/v1/users/{name}", {"role": "user"}, endpoint="/v1/users/{name}"))

    async def refusals(self) -> None:
        """Send requests that are refused: not JSON, invalid JSON, the key of a user instead of an admin."""
        await self.client.send(Request("POST", "/v1/keys", body=b"user=x", media_type="text/plain", role="admin", expects=among(415)))
        await self.client.send(json_request("POST", "/v1/keys", {"user": "a b"}, expects=among(422)))
        await self.client.send(Request("POST", "/v1/keys", body=b'{"user": ', media_type=JSON, role="admin", expects=among(422)))
        await self.client.send(Request("GET", "/v1/keys?limit=0", role="admin", expects=among(422)))
        # A service that requires no key lets every client do everything.
        await self.client.send(Request("GET", "/v1/keys?limit=1", role="user", expects=among(200, 403)))

    async def tear_down(self) -> None:
        self.client.user_keys.clear()
        await super().tear_down()
