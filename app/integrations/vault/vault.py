"""Objects under names: stored, retrieved, deleted and listed.

Storing an object makes a new blob and a new data key, and then replaces the pointer. A concurrent reader gets the whole old object or the
whole new one. A worker that dies leaves at most a blob without a pointer, which maintenance removes later.
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
    from app.integrations.vault.object_storage import ObjectStorage

POINTERS, BLOBS, DATA_KEYS = "objects", "blobs", "keys"
RESTORING = "restoring"
"""Exists while a snapshot is being restored, and holds its id. Objects cannot be changed otherwise in that time."""

_POINTER = b"NVPTR1\0\n"
_ID_BYTES = 16
_ATTEMPTS = 5
GRACE_SECONDS = 3600.0
"""A blob without a pointer is removed this long after that was noticed: until then it may be in use, or its pointer about to be written."""
_log = logging.getLogger("neurectomy.vault")


class Retrieval:
    """One object at the time of the request: `size` plain bytes, which each call of `pieces` yields, verified chunk by chunk."""

    def __init__(self, storage: ObjectStorage, path: str, about: bytes, data_key: bytes, stored: int) -> None:
        self.size = plain_size(stored)
        self._storage, self._path, self._about, self._data_key, self._stored = storage, path, about, data_key, stored
        self._opened: AsyncIterator[bytes] | None = None

    def start(self, opened: AsyncIterator[bytes]) -> None:
        """The first call of `pieces` takes the bytes from `first`."""
        self._opened = opened

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the plain bytes; TamperedError at the first chunk that is not genuine, or if the end is missing."""
        opened, self._opened = self._opened, None
        try:
            stored = self._stored
            if opened is None:
                stored, opened = await self._storage.read(self._path)
            seconds = 0.0
            opener = Opener(self._data_key, self._about, stored)
            async for piece in opened:
                started = time.perf_counter()
                for chunk in opener.add(piece):
                    seconds += time.perf_counter() - started
                    yield chunk
                    started = time.perf_counter()
                seconds += time.perf_counter() - started
            opener.finish()
            metrics.sigmavault_encryption_duration_seconds.labels("decrypt").observe(seconds)
        except MissingError:
            raise TamperedError("the object's bytes are missing from the store") from None


class Vault:
    """The objects of one storage, under one keyring. Any number of processes and machines can use it concurrently."""

    def __init__(self, storage: ObjectStorage, keyring: Keyring) -> None:
        self.storage = storage
        self.keyring = keyring

    async def store(self, name: str, pieces: AsyncIterator[bytes]) -> int:
        """Store an object under this name, replacing another; return its size in bytes. If `pieces` raises, nothing changes."""
        path = pointer_path(name)
        self.keyring.check()
        await self._check_restoring()
        blob = os.urandom(_ID_BYTES)
        data_key = os.urandom(32)
        sealer = Sealer(data_key, _about(blob, name))
        try:
            await self.storage.write(blob_path(blob), _sealed(sealer, pieces))
            written = time.monotonic()
            await self.storage.put(key_path(blob), self.keyring.wrap(data_key, blob))
        except BaseException:
            await self._discard(blob)
            raise
        if time.monotonic() - written > GRACE_SECONDS / 2:
            raise UnavailableError("the store was too slow: the new bytes may have been cleaned up. Store the object again.")
        await self._check_restoring()
        # If this fails, the pointer may have been written or not: the blob stays until maintenance knows.
        await self.storage.put(path, _POINTER + blob)
        return sealer.size

    async def retrieve(self, name: str) -> Retrieval:
        """Find an object; UnknownObjectError if there is none."""
        path = pointer_path(name)
        self.keyring.check()
        seen: bytes | None = None
        for _ in range(_ATTEMPTS):
            blob = await self._pointed(path, name)
            try:
                wrapped = await self.storage.get(key_path(blob))
                stored, opened = await self.storage.read(blob_path(blob))
            except MissingError:
                if blob == seen:
                    break
                # Replaced and cleaned up between our two requests.
                seen = blob
                continue
            found = Retrieval(self.storage, blob_path(blob), _about(blob, name), self.keyring.unwrap(wrapped, blob), stored)
            found.start(opened)
            return found
        raise TamperedError(f"the bytes or the key of {name!r} are missing from the store")

    async def delete(self, name: str) -> None:
        """Delete an object; UnknownObjectError if there is none. The next maintenance removes its bytes."""
        path = pointer_path(name)
        await self._check_restoring()
        try:
            await self.storage.get(path)
        except MissingError:
            raise UnknownObjectError(f"there is no object {name!r}") from None
        await self.storage.remove(path)

    async def names(self, prefix: str = "", after: str = "", limit: int = 1000) -> list[str]:
        """Return the names with this prefix, sorted by code point: at most `limit`, after `after`."""
        found = []
        folder = f"{POINTERS}/{object_names.folder(prefix)}".rstrip("/")
        async for kept in self.storage.list(folder):
            name = object_names.to_name(kept.path.removeprefix(f"{POINTERS}/"))
            if name is not None and name.startswith(prefix) and name > after:
                found.append(name)
        return sorted(found)[:limit]

    async def pointers(self, damaged: bytes | None = None) -> dict[str, bytes]:
        """Return the blob of every object, by name. A damaged pointer becomes `damaged`, or raises TamperedError."""
        found = {}
        async for kept in self.storage.list(POINTERS):
            name = object_names.to_name(kept.path.removeprefix(f"{POINTERS}/"))
            if name is None:
                continue
            try:
                found[name] = await self._pointed(kept.path, name)
            except UnknownObjectError:
                continue  # deleted in the meantime
            except TamperedError:
                if damaged is None:
                    raise
                found[name] = damaged
        return found

    async def point(self, name: str, blob: bytes) -> None:
        """Point a name to an existing blob."""
        await self.storage.put(pointer_path(name), _POINTER + blob)

    async def unpoint(self, name: str) -> None:
        """Remove the pointer of a name, if it has one."""
        await self.storage.remove(pointer_path(name))

    async def _check_restoring(self) -> None:
        try:
            await self.storage.get(RESTORING)
        except MissingError:
            return
        raise UnavailableError("a snapshot is being restored; nothing can be stored or deleted until it is done")

    async def _pointed(self, path: str, name: str) -> bytes:
        try:
            pointer = await self.storage.get(path)
        except MissingError:
            raise UnknownObjectError(f"there is no object {name!r}") from None
        if len(pointer) != len(_POINTER) + _ID_BYTES or not pointer.startswith(_POINTER):
            raise TamperedError(f"the pointer of {name!r} in the store was changed")
        return pointer[len(_POINTER) :]

    async def _discard(self, blob: bytes) -> None:
        """Remove the files of an object that could not be stored, as far as possible now."""
        for path in (blob_path(blob), key_path(blob)):
            try:
                await self.storage.remove(path)
            except VaultError as error:
                _log.warning("the files of an object that could not be stored are removed later: %s", error)


def pointer_path(name: str) -> str:
    """Return the path of an object's pointer."""
    return f"{POINTERS}/{object_names.to_path(name)}"


def blob_path(blob: bytes) -> str:
    """Return the path of a blob. Blobs are spread over folders, which suits file systems."""
    return f"{BLOBS}/{blob.hex()[:2]}/{blob.hex()}"


def key_path(blob: bytes) -> str:
    """Return the path of a blob's wrapped data key."""
    return f"{DATA_KEYS}/{blob.hex()[:2]}/{blob.hex()}"


def _about(blob: bytes, name: str) -> bytes:
    return blob + name.encode()


async def _sealed(sealer: Sealer, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Encrypt the pieces as they come, and measure the time."""
    seconds = 0.0
    yield sealer.head
    async for piece in pieces:
        started = time.perf_counter()
        for chunk in sealer.add(piece):
            seconds += time.perf_counter() - started
            yield chunk
            started = time.perf_counter()
        seconds += time.perf_counter() - started
    started = time.perf_counter()
    last = sealer.finish()
    seconds += time.perf_counter() - started
    yield last
    metrics.sigmavault_encryption_duration_seconds.labels("encrypt").observe(seconds)
