"""Maintenance of the vault by one process of the instance: measure it, continue a restore, remove unused blobs.

Also the rotation of keys, for `python -m app.vault`.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING

from app.integrations.vault.errors import TamperedError, UnknownSnapshotError, VaultError
from app.integrations.vault.keyring import wrapping_key
from app.integrations.vault.object_storage import MissingError
from app.integrations.vault.vault import BLOBS, DATA_KEYS, GRACE_SECONDS, POINTERS, blob_path, key_path
from app.reporting.elected_task import ElectedTask
from monitoring import metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from app.integrations.vault.snapshots import Snapshots
    from app.integrations.vault.vault import Vault
    from monitoring.multiprocess import Election

MEASURE_SECONDS = 15.0
_CLEAN_SECONDS = 600.0
_STAGED_SECONDS = 86_400.0


class Maintenance(ElectedTask):
    """The maintenance of one vault."""

    role = "sigmavault"
    every_seconds = 1.0
    retry_seconds = 15.0
    expected_error = VaultError
    failure = "the maintenance of the vault failed, and is tried again"
    log = logging.getLogger("neurectomy.vault")

    def __init__(self, vault: Vault, snapshots: Snapshots) -> None:
        self._vault, self._snapshots = vault, snapshots
        #: Since when a blob has had no pointer, by its id.
        self._unreferenced: dict[bytes, float] = {}
        self._measured = self._cleaned = -float("inf")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """As ElectedTask. Without VAULT_KEY_FILE there is nothing to maintain."""
        async with super().running() if self._vault.keyring.configured else contextlib.nullcontext():
            yield

    def elected(self, election: Election) -> bool:
        held = super().elected(election)
        if not held:
            self._unreferenced.clear()
        return held

    async def turn(self) -> None:
        """Do the steps that are due."""
        if self._vault.storage.unused:
            metrics.sigmavault_objects_total.set(0)
            metrics.sigmavault_storage_bytes_total.set(0)
            return
        await self._restore()
        now = time.monotonic()
        if now - self._measured >= MEASURE_SECONDS:
            await self.measure()
            self._measured = time.monotonic()
        if now - self._cleaned >= _CLEAN_SECONDS:
            await self.clean()
            self._cleaned = time.monotonic()

    async def _restore(self) -> None:
        started = time.perf_counter()
        try:
            restored = await self._snapshots.go_on()
        except (TamperedError, UnknownSnapshotError) as error:
            self.log.error("the requested restore is abandoned: %s", error)
            await self._snapshots.abandon()
            count_snapshot("restore", "error", started)
            return
        if restored is not None:
            count_snapshot("restore", "success", started)
            self._measured = -float("inf")

    async def measure(self) -> None:
        """Set the number of objects and the bytes of all blobs, as the store lists them."""
        objects = sum([1 async for _ in self._vault.storage.list(POINTERS)])
        size = sum([kept.bytes async for kept in self._vault.storage.list(BLOBS)])
        metrics.sigmavault_objects_total.set(objects)
        metrics.sigmavault_storage_bytes_total.set(size)

    async def clean(self, grace: float = GRACE_SECONDS) -> int:
        """Remove blobs that no object and no snapshot has needed for `grace` seconds; return their number."""
        storage = self._vault.storage
        there: set[bytes] = set()
        for folder in (BLOBS, DATA_KEYS):
            there.update([bytes.fromhex(kept.path.rpartition("/")[2]) async for kept in storage.list(folder)])
        needed = set((await self._vault.pointers()).values())
        for snapshot in await self._snapshots.all():
            with contextlib.suppress(UnknownSnapshotError):  # deleted in the meantime
                needed.update((await self._snapshots.contents(snapshot.id)).values())
            needed.add(bytes.fromhex(snapshot.id))
        now = time.monotonic()
        self._unreferenced = {blob: self._unreferenced.get(blob, now) for blob in there - needed}
        old = [blob for blob, since in self._unreferenced.items() if now - since >= grace]
        for blob in old:
            await storage.remove(blob_path(blob))
            await storage.remove(key_path(blob))
            del self._unreferenced[blob]
        await storage.clean(time.time() - _STAGED_SECONDS)
        return len(old)


async def rewrap(vault: Vault) -> int:
    """Wrap every data key with the newest key of VAULT_KEY_FILE; return how many changed. Objects stay unchanged and usable."""
    current = vault.keyring.current
    changed = 0
    async for kept in vault.storage.list(DATA_KEYS):
        blob = bytes.fromhex(kept.path.rpartition("/")[2])
        try:
            wrapped = await vault.storage.get(kept.path)
        except MissingError:
            continue  # removed in the meantime
        if wrapping_key(wrapped) != current:
            await vault.storage.put(kept.path, vault.keyring.wrap(vault.keyring.unwrap(wrapped, blob), blob))
            changed += 1
    return changed


def count_snapshot(operation: str, status: str, started: float) -> None:
    """Count a backup or a restore that started at `started`, a time of time.perf_counter()."""
    metrics.sigmavault_snapshot_duration_seconds.labels(operation, status).observe(time.perf_counter() - started)
    metrics.sigmavault_snapshots.labels(operation, status).inc()
