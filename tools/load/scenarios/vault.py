"""ΣVAULT: objects are stored, retrieved, listed and deleted, under names that begin with the run's."""

from __future__ import annotations

import contextlib
from urllib.parse import quote

from tools.load import expected_metrics, payloads
from tools.load.call import OK, Call, Pace
from tools.load.client import NoAnswerError
from tools.load.scenarios.scenario import Part, Story, among

OBJECTS = "/v1/vault/objects"
ONE = f"{OBJECTS}/{{name:path}}"
_SIZES = (0, 100, 5_000, 50_000, 500_000)
_PAGE = 1000


class Vault(Part):
    """`/v1/vault/objects`."""

    name = "vault"
    weight = 4.0

    async def begin(self) -> None:
        self._count = 0
        # Slow calls have objects of their own.
        self._prefix = f"load/{self.setting.run}/{self.choice.randrange(16**8):08x}/"
        await self.client.need(Call("GET", f"{OBJECTS}?limit=1"))

    def stories(self) -> list[Story]:
        return [self.life, self.life, self.keep, self.refusals]

    async def life(self) -> None:
        """Store an object, retrieve it, delete it."""
        name = await self.store(payloads.document(self.choice, self.choice.choice(_SIZES)))
        if name is not None:
            await self.delete(name)

    async def keep(self) -> None:
        """Store an object that stays until the end, and list what is there."""
        await self.store(payloads.document(self.choice, self.choice.choice(_SIZES)))
        await self.client.send(Call("GET", f"{OBJECTS}?prefix={quote(self._prefix)}&limit=100"))

    async def store(self, document: bytes, query: str = "", pace: Pace | None = None) -> str | None:
        """Store an object, retrieve it, and compare; give its name, None where it could not be stored."""
        self._count += 1
        name = f"{self._prefix}{self._count} ß.bin"
        pace = pace or Pace()
        call = Call("PUT", _path(name), ONE, document, expects=among(201), moves=expected_metrics.vault("store"), pace=Pace(pace.sending))
        if (await self.client.send(call)).status != 201:
            return None
        call = Call("GET", _path(name) + query, ONE, moves=expected_metrics.vault("retrieve"), pace=Pace(reading=pace.reading))
        found = await self.client.send(call)
        if found.status in OK and found.body != document:
            self.client.faults["an object did not come back from the vault as it was stored"] += 1
        return name

    async def delete(self, name: str) -> None:
        """Delete an object."""
        await self.client.send(Call("DELETE", _path(name), ONE, expects=among(204), moves=expected_metrics.vault("delete")))

    async def refusals(self) -> None:
        """Ask for what is none, and for names that none can have."""
        name = f"{self._prefix}none"
        await self.client.send(Call("GET", _path(name), ONE, expects=among(404), moves=expected_metrics.vault("retrieve")))
        await self.client.send(Call("DELETE", _path(name), ONE, expects=among(404), moves=expected_metrics.vault("delete")))
        name = f"{self._prefix}{'ß' * 300}"
        await self.client.send(Call("PUT", _path(name), ONE, b"x", expects=among(422), moves=expected_metrics.vault("store")))
        await self.client.send(Call("GET", f"{OBJECTS}?limit=0", expects=among(422)))

    async def end(self) -> None:
        if not self._count:
            return
        for _ in range(1 + self._count // _PAGE):
            with contextlib.suppress(NoAnswerError):
                found = await self.client.send(Call("GET", f"{OBJECTS}?prefix={quote(self._prefix)}&limit={_PAGE}"))
                for name in found.json()["names"] if found.status in OK else []:
                    with contextlib.suppress(NoAnswerError):
                        await self.delete(name)


def _path(name: str) -> str:
    return f"{OBJECTS}/{quote(name)}"
