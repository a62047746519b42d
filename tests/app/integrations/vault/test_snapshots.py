"""Snapshots: taken, restored and deleted, also by the process that follows one that died, and refused when changed."""

from __future__ import annotations

import os

import pytest

from app.integrations.vault import (
    TamperedError,
    UnavailableError,
    UnknownSnapshotError,
    Vault,
)
from app.integrations.vault.maintenance import Maintenance
from app.integrations.vault.snapshots import Snapshots

from .conftest import given, read, run


def test_snapshots_there_and_back(vault: Vault) -> None:
    async def work() -> None:
        snapshots = Snapshots(vault)
        first = {f"object/{number}": os.urandom(100) for number in range(20)}
        for name, content in first.items():
            await vault.store(name, given(content))
        taken = await snapshots.backup()
        await vault.store("object/0", given(b"changed"))
        await vault.delete("object/1")
        await vault.store("later", given(b"later"))
        later = await snapshots.backup()
        assert [each.id for each in await snapshots.all()] == [taken.id, later.id]
        # What only a snapshot needs is kept.
        maintenance = Maintenance(vault, snapshots)
        assert await maintenance.clean(grace=0) == 0
        for snapshot, names in ((taken, sorted(first)), (later, sorted([*first.keys() - {"object/1"}, "later"]))) * 2:
            await snapshots.request(snapshot.id)
            for call in (vault.store("x", given(b"")), vault.delete("object/2"), snapshots.request(taken.id)):
                with pytest.raises(UnavailableError, match="being restored"):
                    await call
            assert await snapshots.go_on() == snapshot.id
            assert await vault.names() == names
            assert await read(vault, "object/0") == (first["object/0"] if snapshot is taken else b"changed")
        await snapshots.delete(taken.id)
        for call in (snapshots.delete(taken.id), snapshots.request(taken.id), snapshots.delete("../objects/x")):
            with pytest.raises(UnknownSnapshotError):
                await call
        assert await maintenance.clean(grace=0) == 2  # what object/0 and object/1 were
        assert await vault.names() == names

    run(work())


def test_an_interrupted_restore_is_finished_or_given_up(vault: Vault) -> None:
    async def work() -> None:
        snapshots = Snapshots(vault)
        for number in range(10):
            await vault.store(f"object/{number}", given(b"old"))
        taken = await snapshots.backup()
        for number in range(20):
            await vault.store(f"object/{number}", given(b"new"))
        await snapshots.request(taken.id)
        wanted = await snapshots.contents(taken.id)
        await vault.point("object/3", wanted["object/3"])  # as far as it came
        await vault.unpoint("object/15")
        await Maintenance(vault, snapshots).turn()
        assert await snapshots.restoring() is None
        assert [await read(vault, name) for name in await vault.names()] == [b"old"] * 10
        await snapshots.request(taken.id)
        await snapshots.delete(taken.id)
        await Maintenance(vault, snapshots).turn()
        assert await snapshots.restoring() is None
        await vault.store("object/0", given(b"again"))

    run(work())


def test_a_changed_snapshot_is_refused(vault: Vault) -> None:
    async def work() -> None:
        snapshots = Snapshots(vault)
        await vault.store("name", given(b"content"))
        taken = await snapshots.backup()
        path = f"snapshots/{taken.id}"
        whole = await vault.storage.get(path)
        for at in range(0, len(whole) * 8, 7):
            changed = bytearray(whole)
            changed[at // 8] ^= 1 << at % 8
            await vault.storage.put(path, bytes(changed))
            with pytest.raises(TamperedError):
                await snapshots.request(taken.id)
        assert await snapshots.restoring() is None

    run(work())
