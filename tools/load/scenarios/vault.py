"""ΣVAULT: objects are stored, retrieved, listed and deleted. Their names start with that of the run."""

from __future__ import annotations

import contextlib
from urllib.parse import quote

from tools.load import expected_metrics, payloads
from tools.load.client import NoAnswerError
from tools.load.request import OK, Pace, Request
from tools.load.scenarios.scenario import Scenario, Step, among

OBJECTS = "/v1/vault/objects"
ONE = f"{OBJECTS}/{{name:path}}"
_SIZES = (0, 100, 5_000, 50_000, 500_000)
_PAGE = 1000


class VaultScenario(Scenario):
    """`/v1/vault/objects`."""

    name = "vault"
    weight = 4.0

    async def set_up(self) -> None:
        self._count = 0
        # The `slow` scenario has other objects.
        self._prefix = f"load/{self.context.run}/{self.choice.randrange(16**8):08x}/"
        await self.client.need(Request("GET", f"{OBJECTS}?limit=1"))

    def steps(self) -> list[Step]:
        return [self.life, self.life, self.keep, self.refusals]

    async def life(self) -> None:
        """Store an object, retrieve it, delete it."""
        name = await self.store(payloads.document(self.choice, self.choice.choice(_SIZES)))
        if name is not None:
            await self.delete(name)

    async def keep(self) -> None:
        """Store an object that stays until the end, and list the objects."""
        await self.store(payloads.document(self.choice, self.choice.choice(_SIZES)))
        await self.client.send(Request("GET", f"{OBJECTS}?prefix={quote(self._prefix)}&limit=100"))

    async def store(self, document: bytes, query: str = "", pace: Pace | None = None) -> str | None:
        """Store an object, retrieve it, and compare; return its name, or None if it could not be stored."""
        self._count += 1
        name = f"{self._prefix}{self._count} ß.bin"
        pace = pace or Pace()
        request = Request(
            "PUT", _path(name), ONE, document, expects=among(201), moves=expected_metrics.vault("store"), pace=Pace(pace.sending)
        )
        if (await self.client.send(request)).status != 201:
            return None
        request = Request("GET", _path(name) + query, ONE, moves=expected_metrics.vault("retrieve"), pace=Pace(reading=pace.reading))
        found = await self.client.send(request)
        if found.status in OK and found.body != document:
            self.client.faults["an object did not come back from the vault as it was stored"] += 1
        return name

    async def delete(self, name: str) -> None:
        """Delete an object."""
        await self.client.send(Request("DELETE", _path(name), ONE, expects=among(204), moves=expected_metrics.vault("delete")))

    async def refusals(self) -> None:
        """Use the name of an unknown object, and an invalid name."""
        name = f"{self._prefix}none"
        await self.client.send(Request("GET", _path(name), ONE, expects=among(404), moves=expected_metrics.vault("retrieve")))
        await self.client.send(Request("DELETE", _path(name), ONE, expects=among(404), moves=expected_metrics.vault("delete")))
        name = f"{self._prefix}{'ß' * 300}"
        await self.client.send(Request("PUT", _path(name), ONE, b"x", expects=among(422), moves=expected_metrics.vault("store")))
        await self.client.send(Request("GET", f"{OBJECTS}?limit=0", expects=among(422)))

    async def tear_down(self) -> None:
        if not self._count:
            return
        for _ in range(1 + self._count // _PAGE):
            with contextlib.suppress(NoAnswerError):
                found = await self.client.send(Request("GET", f"{OBJECTS}?prefix={quote(self._prefix)}&limit={_PAGE}"))
                for name in found.json()["names"] if found.status in OK else []:
                    with contextlib.suppress(NoAnswerError):
                        await self.delete(name)


def _path(name: str) -> str:
    return f"{OBJECTS}/{quote(name)}"
