"""Snapshots: the state of all objects at one time. Blobs never change, so a snapshot copies none; maintenance keeps those that it needs.

A backup appears whole or not at all. One process makes a restore, pointer by pointer, and if it dies the next elected process continues.
Until the restore is done, objects cannot be changed otherwise.
"""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.integrations.vault.encryption import Opener, Sealer
from app.integrations.vault.errors import TamperedError, UnavailableError, UnknownSnapshotError
from app.integrations.vault.object_storage import MissingError
from app.integrations.vault.vault import RESTORING, key_path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from app.integrations.vault.vault import Vault

SNAPSHOTS = "snapshots"
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Snapshot:
    """One snapshot; `created` is in seconds since 1970."""

    id: str
    created: float


class Snapshots:
    """The snapshots of one vault, in the vault's own storage."""

    def __init__(self, vault: Vault) -> None:
        self.vault = vault

    async def backup(self) -> Snapshot:
        """Take a snapshot of all objects."""
        self.vault.keyring.check()
        moment = time.time()
        # Starts with the time, so that ids sort by it.
        number = int(moment * 1000).to_bytes(6, "big") + os.urandom(10)
        content = json.dumps({name: blob.hex() for name, blob in (await self.vault.pointers()).items()}).encode()
        data_key = os.urandom(32)
        sealer = Sealer(data_key, _about(number))

        async def sealed() -> AsyncIterator[bytes]:
            yield sealer.head
            for chunk in sealer.add(content):
                yield chunk
            yield sealer.finish()

        storage = self.vault.storage
        await storage.put(key_path(number), self.vault.keyring.wrap(data_key, number))
        await storage.write(_path(number), sealed())
        return _shown(number)

    async def all(self) -> list[Snapshot]:
        """List the snapshots, oldest first."""
        found = []
        async for kept in self.vault.storage.list(SNAPSHOTS):
            name = kept.path.rpartition("/")[2]
            if _ID.fullmatch(name):
                found.append(_shown(bytes.fromhex(name)))
        return sorted(found, key=lambda snapshot: snapshot.id)

    async def delete(self, snapshot: str) -> None:
        """Delete a snapshot; UnknownSnapshotError if there is none. The next maintenance removes the blobs that only it needed."""
        number = _parse(snapshot)
        if snapshot not in {each.id for each in await self.all()}:
            raise UnknownSnapshotError(f"there is no snapshot {snapshot!r}")
        await self.vault.storage.remove(_path(number))
        await self.vault.storage.remove(key_path(number))

    async def contents(self, snapshot: str) -> dict[str, bytes]:
        """Return the blob of every object in a snapshot, by name."""
        number = _parse(snapshot)
        storage = self.vault.storage
        try:
            stored, pieces = await storage.read(_path(number))
        except MissingError:
            raise UnknownSnapshotError(f"there is no snapshot {snapshot!r}") from None
        try:
            data_key = self.vault.keyring.unwrap(await storage.get(key_path(number)), number)
        except MissingError:
            raise TamperedError(f"the data key of snapshot {snapshot} is missing from the store") from None
        opener = Opener(data_key, _about(number), stored)
        content = bytearray()
        async for piece in pieces:
            for chunk in opener.add(piece):
                content += chunk
        opener.finish()
        return {name: bytes.fromhex(blob) for name, blob in json.loads(bytes(content)).items()}

    async def request(self, snapshot: str) -> None:
        """Request a restore, which maintenance makes; UnavailableError if another one is running."""
        await self.contents(snapshot)  # a damaged snapshot changes nothing
        if not await self.vault.storage.create(RESTORING, snapshot.encode()):
            raise UnavailableError("a snapshot is being restored already")

    async def restoring(self) -> str | None:
        """Return the id of the snapshot that is being restored or is about to be; None if there is none."""
        try:
            return (await self.vault.storage.get(RESTORING)).decode(errors="replace")
        except MissingError:
            return None

    async def go_on(self) -> str | None:
        """Complete the requested restore; return the snapshot's id, or None without a request."""
        snapshot = await self.restoring()
        if snapshot is None:
            return None
        wanted = await self.contents(snapshot)
        present = await self.vault.pointers(damaged=b"")
        for name in present.keys() - wanted.keys():
            await self.vault.unpoint(name)
        for name, blob in wanted.items():
            if present.get(name) != blob:
                await self.vault.point(name, blob)
        await self.vault.storage.remove(RESTORING)
        return snapshot

    async def abandon(self) -> None:
        """Abandon a restore whose snapshot is damaged, so that objects can be changed again."""
        await self.vault.storage.remove(RESTORING)


def _path(number: bytes) -> str:
    return f"{SNAPSHOTS}/{number.hex()}"


def _about(number: bytes) -> bytes:
    # An object's name is never empty.
    return number


def _parse(snapshot: str) -> bytes:
    if not _ID.fullmatch(snapshot):
        raise UnknownSnapshotError(f"there is no snapshot {snapshot!r}")
    return bytes.fromhex(snapshot)


def _shown(number: bytes) -> Snapshot:
    return Snapshot(number.hex(), int.from_bytes(number[:6], "big") / 1000)
