"""What one process of the instance does for the vault now and then: measure it, go on with a restore, remove what nothing needs.

Also the rotation of keys, which `python -m app.vault` makes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING

from app.integrations.vault.errors import TamperedError, UnknownSnapshotError, VaultError
from app.integrations.vault.keyring import wrapping_key
from app.integrations.vault.object_storage import MissingError
from app.integrations.vault.vault import BLOBS, DATA_KEYS, GRACE_SECONDS, POINTERS, blob_path, key_path
from monitoring import metrics
from monitoring.log_once import LogOnce
from monitoring.multiprocess import Election

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from app.integrations.vault.snapshots import Snapshots
    from app.integrations.vault.vault import Vault

LOOK_SECONDS = 1.0
"""How often a wanted restore is looked for."""

MEASURE_SECONDS = 15.0
_CLEAN_SECONDS = 600.0
_STAGED_SECONDS = 86_400.0
_FAILED_SECONDS = 15.0
_log = logging.getLogger("neurectomy.vault")


class Upkeep:
    """The work of the elected process; `elect` says, from a thread, whether this is it."""

    def __init__(self, vault: Vault, snapshots: Snapshots, elect: Callable[[], bool]) -> None:
        self._vault, self._snapshots, self._elect = vault, snapshots, elect
        #: Since when nothing points to a blob, by its id.
        self._idle: dict[bytes, float] = {}
        self._measured = self._cleaned = -float("inf")
        self._problems = LogOnce(_log)

    async def run(self) -> None:
        """Look until cancelled; what goes wrong is logged once and tried again."""
        while True:
            pause = LOOK_SECONDS
            try:
                if await asyncio.to_thread(self._elect):
                    await self.turn()
                    self._problems.clear()
                else:
                    self._idle.clear()
            except VaultError as error:
                self._problems.warn(f"the vault's upkeep waits: {error}")
                pause = _FAILED_SECONDS
            except Exception:  # noqa: BLE001 - whatever it is, the next turn may go well, and nothing else fails
                _log.exception("the vault's upkeep failed; it is tried again")
                pause = _FAILED_SECONDS
            await asyncio.sleep(pause)

    async def turn(self) -> None:
        """Do what is due."""
        if self._vault.place.unused:
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
        began = time.perf_counter()
        try:
            restored = await self._snapshots.go_on()
        except (TamperedError, UnknownSnapshotError) as error:
            _log.error("the restore that was asked for is given up: %s", error)
            await self._snapshots.abandon()
            count_snapshot("restore", "error", began)
            return
        if restored is not None:
            count_snapshot("restore", "success", began)
            self._measured = -float("inf")

    async def measure(self) -> None:
        """Say how many objects there are, and the bytes of all blobs, from the store itself."""
        objects = sum([1 async for _ in self._vault.place.list(POINTERS)])
        size = sum([kept.bytes async for kept in self._vault.place.list(BLOBS)])
        metrics.sigmavault_objects_total.set(objects)
        metrics.sigmavault_storage_bytes_total.set(size)

    async def clean(self, grace: float = GRACE_SECONDS) -> int:
        """Remove blobs that no object and no snapshot has needed for `grace` seconds; give how many."""
        place = self._vault.place
        there: set[bytes] = set()
        for folder in (BLOBS, DATA_KEYS):
            there.update([bytes.fromhex(kept.path.rpartition("/")[2]) async for kept in place.list(folder)])
        needed = set((await self._vault.pointers()).values())
        for snapshot in await self._snapshots.all():
            with contextlib.suppress(UnknownSnapshotError):  # deleted meanwhile
                needed.update((await self._snapshots.contents(snapshot.id)).values())
            needed.add(bytes.fromhex(snapshot.id))
        now = time.monotonic()
        self._idle = {blob: self._idle.get(blob, now) for blob in there - needed}
        old = [blob for blob, since in self._idle.items() if now - since >= grace]
        for blob in old:
            await place.remove(blob_path(blob))
            await place.remove(key_path(blob))
            del self._idle[blob]
        await place.clean(time.time() - _STAGED_SECONDS)
        return len(old)


@contextlib.asynccontextmanager
async def kept_up(vault: Vault, snapshots: Snapshots) -> AsyncIterator[None]:
    """Let this process stand for the vault's upkeep until the block ends; not where VAULT_KEY_FILE is not set."""
    if not vault.keyring.configured:
        yield
        return
    role = Election("sigmavault")
    task = asyncio.create_task(Upkeep(vault, snapshots, role.try_hold).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        await asyncio.to_thread(role.release)


async def rewrap(vault: Vault) -> int:
    """Wrap every data key with the newest key of VAULT_KEY_FILE; give how many were not. Objects stay as they are, and in use."""
    current = vault.keyring.current
    changed = 0
    async for kept in vault.place.list(DATA_KEYS):
        blob = bytes.fromhex(kept.path.rpartition("/")[2])
        try:
            wrapped = await vault.place.get(kept.path)
        except MissingError:
            continue  # removed meanwhile
        if wrapping_key(wrapped) != current:
            await vault.place.put(kept.path, vault.keyring.wrap(vault.keyring.unwrap(wrapped, blob), blob))
            changed += 1
    return changed


def count_snapshot(operation: str, status: str, began: float) -> None:
    """Count a backup or a restore that began at `began`, of time.perf_counter()."""
    metrics.sigmavault_snapshot_duration_seconds.labels(operation, status).observe(time.perf_counter() - began)
    metrics.sigmavault_snapshots.labels(operation, status).inc()
