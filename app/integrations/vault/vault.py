"""Objects under names: stored, retrieved, deleted and listed.

Each store makes a new blob and a new data key, and ends by replacing the pointer: who reads meanwhile gets the old object or the new one,
whole, and a worker that dies leaves at most a blob that nothing points to, which upkeep removes after a while.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

from app.integrations.vault.encryption import Opener, Sealer, plain_size
from app.integrations.vault.errors import TamperedError, UnavailableError, UnknownObjectError, VaultError
from app.integrations.vault.object_storage import MissingError
from monitoring import metrics

from . import object_names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from app.integrations.vault.keyring import Keyring
    from app.integrations.vault.object_storage import Place

POINTERS, BLOBS, DATA_KEYS = "objects", "blobs", "keys"
RESTORING = "restoring"
"""Is there while a snapshot is being restored, with the snapshot's id in it: nothing else changes objects meanwhile."""

_POINTER = b"NVPTR1\0\n"
_ID_BYTES = 16
_ATTEMPTS = 5
GRACE_SECONDS = 3600.0
"""What nothing points to is removed so long after that was noticed first: until then somebody may still read it, or be about to point."""
_log = logging.getLogger("neurectomy.vault")


class Retrieval:
    """One object as it was when it was asked for: `size` plain bytes, which `pieces` gives, verified chunk by chunk, as often as asked."""

    def __init__(self, place: Place, path: str, about: bytes, data_key: bytes, stored: int) -> None:
        self.size = plain_size(stored)
        self._place, self._path, self._about, self._data_key, self._stored = place, path, about, data_key, stored
        self._opened: AsyncIterator[bytes] | None = None

    def begin(self, opened: AsyncIterator[bytes]) -> None:
        """Take the bytes of the first `pieces` from here."""
        self._opened = opened

    async def pieces(self) -> AsyncIterator[bytes]:
        """Give the plain bytes; TamperedError at the first chunk that is not genuine, and before the end where that is missing."""
        opened, self._opened = self._opened, None
        try:
            stored = self._stored
            if opened is None:
                stored, opened = await self._place.read(self._path)
            seconds = 0.0
            opener = Opener(self._data_key, self._about, stored)
            async for piece in opened:
                began = time.perf_counter()
                for chunk in opener.add(piece):
                    seconds += time.perf_counter() - began
                    yield chunk
                    began = time.perf_counter()
                seconds += time.perf_counter() - began
            opener.finish()
            metrics.sigmavault_encryption_duration_seconds.labels("decrypt").observe(seconds)
        except MissingError:
            raise TamperedError("the object's bytes are gone from the store") from None


class Vault:
    """The objects of one place, under one keyring. Safe to use from any number of processes and machines at once."""

    def __init__(self, place: Place, keyring: Keyring) -> None:
        self.place = place
        self.keyring = keyring

    async def store(self, name: str, pieces: AsyncIterator[bytes]) -> int:
        """Keep an object under this name, in place of another; give its size in bytes. What `pieces` raises leaves everything as it was."""
        path = pointer_path(name)
        self.keyring.check()
        await self._check_restoring()
        blob = os.urandom(_ID_BYTES)
        data_key = os.urandom(32)
        sealer = Sealer(data_key, _about(blob, name))
        try:
            await self.place.write(blob_path(blob), _sealed(sealer, pieces))
            written = time.monotonic()
            await self.place.put(key_path(blob), self.keyring.wrap(data_key, blob))
        except BaseException:
            await self._discard(blob)
            raise
        if time.monotonic() - written > GRACE_SECONDS / 2:
            raise UnavailableError("the store took so long that what was stored may have been cleaned up: store it again")
        await self._check_restoring()
        # Where this fails, nobody can tell whether it was done: the blob stays until upkeep knows.
        await self.place.put(path, _POINTER + blob)
        return sealer.size

    async def retrieve(self, name: str) -> Retrieval:
        """Find an object; UnknownObjectError where there is none."""
        path = pointer_path(name)
        self.keyring.check()
        seen: bytes | None = None
        for _ in range(_ATTEMPTS):
            blob = await self._pointed(path, name)
            try:
                wrapped = await self.place.get(key_path(blob))
                stored, opened = await self.place.read(blob_path(blob))
            except MissingError:
                if blob == seen:
                    break
                # Replaced and cleaned up between two of our questions.
                seen = blob
                continue
            found = Retrieval(self.place, blob_path(blob), _about(blob, name), self.keyring.unwrap(wrapped, blob), stored)
            found.begin(opened)
            return found
        raise TamperedError(f"the bytes or the key of {name!r} are gone from the store")

    async def delete(self, name: str) -> None:
        """Delete an object; UnknownObjectError where there is none. Its bytes follow with the next upkeep."""
        path = pointer_path(name)
        await self._check_restoring()
        try:
            await self.place.get(path)
        except MissingError:
            raise UnknownObjectError(f"there is no object {name!r}") from None
        await self.place.remove(path)

    async def names(self, prefix: str = "", after: str = "", limit: int = 1000) -> list[str]:
        """List the names with this prefix, in the order of their characters: at most `limit`, those after `after`."""
        found = []
        folder = f"{POINTERS}/{object_names.folder(prefix)}".rstrip("/")
        async for kept in self.place.list(folder):
            name = object_names.to_name(kept.path.removeprefix(f"{POINTERS}/"))
            if name is not None and name.startswith(prefix) and name > after:
                found.append(name)
        return sorted(found)[:limit]

    async def pointers(self, damaged: bytes | None = None) -> dict[str, bytes]:
        """Give the blob of every object, by the object's name; `damaged` for a pointer that is none, or TamperedError."""
        found = {}
        async for kept in self.place.list(POINTERS):
            name = object_names.to_name(kept.path.removeprefix(f"{POINTERS}/"))
            if name is None:
                continue
            try:
                found[name] = await self._pointed(kept.path, name)
            except UnknownObjectError:
                continue  # deleted meanwhile
            except TamperedError:
                if damaged is None:
                    raise
                found[name] = damaged
        return found

    async def point(self, name: str, blob: bytes) -> None:
        """Let a name mean a blob that is there."""
        await self.place.put(pointer_path(name), _POINTER + blob)

    async def unpoint(self, name: str) -> None:
        """Let a name mean nothing, if it means something."""
        await self.place.remove(pointer_path(name))

    async def _check_restoring(self) -> None:
        try:
            await self.place.get(RESTORING)
        except MissingError:
            return
        raise UnavailableError("a snapshot is being restored; nothing can be stored or deleted until that is done")

    async def _pointed(self, path: str, name: str) -> bytes:
        try:
            pointer = await self.place.get(path)
        except MissingError:
            raise UnknownObjectError(f"there is no object {name!r}") from None
        if len(pointer) != len(_POINTER) + _ID_BYTES or not pointer.startswith(_POINTER):
            raise TamperedError(f"what stands for {name!r} in the store was changed")
        return pointer[len(_POINTER) :]

    async def _discard(self, blob: bytes) -> None:
        """Remove what a store that failed has put there, as far as that is possible now."""
        for path in (blob_path(blob), key_path(blob)):
            try:
                await self.place.remove(path)
            except VaultError as error:
                _log.warning("what a failed store left in the vault is removed later: %s", error)


def pointer_path(name: str) -> str:
    """Give where an object's pointer is."""
    return f"{POINTERS}/{object_names.to_path(name)}"


def blob_path(blob: bytes) -> str:
    """Give where a blob is; spread over folders, which file systems prefer."""
    return f"{BLOBS}/{blob.hex()[:2]}/{blob.hex()}"


def key_path(blob: bytes) -> str:
    """Give where a blob's wrapped data key is."""
    return f"{DATA_KEYS}/{blob.hex()[:2]}/{blob.hex()}"


def _about(blob: bytes, name: str) -> bytes:
    return blob + name.encode()


async def _sealed(sealer: Sealer, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Encrypt as it comes, and say how long that took."""
    seconds = 0.0
    yield sealer.head
    async for piece in pieces:
        began = time.perf_counter()
        for chunk in sealer.add(piece):
            seconds += time.perf_counter() - began
            yield chunk
            began = time.perf_counter()
        seconds += time.perf_counter() - began
    began = time.perf_counter()
    last = sealer.finish()
    seconds += time.perf_counter() - began
    yield last
    metrics.sigmavault_encryption_duration_seconds.labels("encrypt").observe(seconds)
