"""Maintenance: it removes what nothing needs, rotates keys and measures, while objects are in use."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from app.integrations.vault import (
    Vault,
    create,
    keyring,
)
from app.integrations.vault.maintenance import Maintenance, rewrap
from app.integrations.vault.snapshots import Snapshots
from app.integrations.vault.vault import BLOBS, DATA_KEYS, blob_path

from .conftest import blob, given, kept, read, run

if TYPE_CHECKING:
    from pathlib import Path


def test_maintenance_removes_what_nothing_needs_and_that_alone(vault: Vault) -> None:
    async def work() -> None:
        maintenance = Maintenance(vault, Snapshots(vault))
        for number in range(5):
            await vault.store(f"object/{number}", given(b"old"))
        old = [await blob(vault, f"object/{number}") for number in range(5)]
        for number in range(3):
            await vault.store(f"object/{number}", given(b"new"))
        await vault.delete("object/3")
        assert await maintenance.clean() == 0, "somebody may be reading it still"
        assert await maintenance.clean(grace=0) == 4
        assert await maintenance.clean(grace=0) == 0
        left = await kept(vault, BLOBS) | await kept(vault, DATA_KEYS)
        assert [blob_path(each) in left for each in old] == [False, False, False, False, True]
        assert len(left) == 8
        for number in (0, 1, 2, 4):
            assert await read(vault, f"object/{number}") == (b"old" if number == 4 else b"new")

    run(work())


def test_a_reader_of_what_is_replaced_and_removed_gets_one_of_both(vault: Vault) -> None:
    async def work() -> None:
        await vault.store("name", given(b"old"))
        maintenance = Maintenance(vault, Snapshots(vault))
        inner = vault.storage.get

        async def get(path: str) -> bytes:
            if path.startswith(DATA_KEYS):  # between the pointer and the key
                vault.storage.get = inner  # type: ignore[method-assign]
                await vault.store("name", given(b"new"))
                await maintenance.clean(grace=0)
            return await inner(path)

        vault.storage.get = get  # type: ignore[method-assign]
        assert await read(vault, "name") == b"new"

    run(work())


def test_a_rotation_wraps_all_keys_anew_while_objects_are_in_use(vault: Vault, key_file: Path) -> None:
    async def work() -> None:
        for number in range(20):
            await vault.store(f"object/{number}", given(b"content"))
        await Snapshots(vault).backup()
        number = keyring.rotate(key_file)
        stop = False

        async def use() -> int:
            turns = 0
            while not stop:
                await vault.store(f"used/{turns}", given(b"content"))
                assert await read(vault, f"object/{turns % 20}") == b"content"
                turns += 1
            return turns

        using = asyncio.ensure_future(use())
        assert await rewrap(vault) >= 21
        stop = True
        turns = await using
        assert await rewrap(vault) == 0
        for path in await kept(vault, DATA_KEYS):
            assert keyring.wrapping_key(await vault.storage.get(path)) == number
        assert keyring.forget(key_file) == 1
        for name in [f"object/{number}" for number in range(20)] + [f"used/{turn}" for turn in range(turns)]:
            assert await read(vault, name) == b"content"

    run(work())


def test_the_store_itself_says_how_much_it_holds(vault: Vault) -> None:
    async def work() -> None:
        from monitoring import metrics

        maintenance = Maintenance(vault, Snapshots(vault))
        for number in range(3):
            await vault.store(f"object/{number}", given(b"x" * 1000))
        await maintenance.measure()
        assert metrics.sigmavault_objects_total._value.get() == 3
        assert metrics.sigmavault_storage_bytes_total._value.get() == 3 * (1000 + 12 + 28)

    run(work())


def test_what_died_half_way_is_removed_after_a_day(key_file: Path, tmp_path: Path) -> None:
    async def work() -> None:
        vault = create((tmp_path / "vault").as_uri(), "unused", str(key_file))
        await vault.store("name#1", given(b"content"))
        staged = tmp_path / "vault" / BLOBS / "ab#1"
        staged.write_bytes(b"half")
        assert await vault.storage.clean(staged.stat().st_mtime - 1) == 0
        assert await vault.storage.clean(staged.stat().st_mtime + 1) == 1
        assert not staged.exists()
        assert await read(vault, "name#1") == b"content"

    run(work())
