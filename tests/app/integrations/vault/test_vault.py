"""Objects in a folder and in a real S3 server: whole, or refused, whatever happens to what is kept there."""

from __future__ import annotations

import asyncio
import os
import random
import re
from typing import TYPE_CHECKING

import pytest

from app.integrations.vault import (
    InvalidNameError,
    StorageFullError,
    TamperedError,
    UnavailableError,
    UnknownObjectError,
    UnknownSnapshotError,
    Vault,
    create,
    keyring,
)
from app.integrations.vault.encryption import CHUNK_BYTES
from app.integrations.vault.maintenance import Upkeep, rewrap
from app.integrations.vault.object_storage import MissingError
from app.integrations.vault.snapshots import Snapshots
from app.integrations.vault.vault import BLOBS, DATA_KEYS, RESTORING, blob_path, key_path, pointer_path
from tests.conftest import PROVES

from .conftest import given, read, run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TAMPERED = 1000 if PROVES else 100
"""So many objects in a folder for each kind of change, and a tenth of it in S3."""

SIZES = (0, 1, 1000, CHUNK_BYTES, 3 * CHUNK_BYTES + 1)


async def kept(vault: Vault, folder: str = "") -> set[str]:
    return {each.path async for each in vault.place.list(folder)}


async def blob(vault: Vault, name: str) -> bytes:
    return (await vault.place.get(pointer_path(name)))[-16:]


def test_there_and_back(vault: Vault) -> None:
    async def work() -> None:
        for size in (*SIZES, 20 * 1024 * 1024):
            content = os.urandom(size)
            assert await vault.store("a/name with ü", given(content[: size // 3], b"", content[size // 3 :])) == size
            assert await read(vault, "a/name with ü") == content
            assert await read(vault, "a/name with ü") == content

    run(work())


def test_nothing_of_an_object_can_be_read_in_the_store(vault: Vault) -> None:
    async def work() -> None:
        await vault.store("name", given(b"a secret " * 1000))
        for path in await kept(vault):
            assert b"secret" not in await vault.place.get(path)

    run(work())


def test_replaced_deleted_and_listed(vault: Vault) -> None:
    async def work() -> None:
        names = [
            "a",
            "a/b",
            "a/b/c",
            "b",
            "ü",
            "a+b",
            "a=b",
            "x" * 300,
            "with space",
            "%20",
            "z#1",
            "../up",
            "/",
            "//",
            "a//b",
            "tab\t",
            "\x00",
            ".",
        ]
        for name in names:
            await vault.store(name, given(name.encode()))
        for name in names:
            assert await read(vault, name) == name.encode()
        assert await vault.names() == sorted(names)
        assert await vault.names("a") == ["a", "a+b", "a//b", "a/b", "a/b/c", "a=b"]
        assert await vault.names("a/b") == ["a/b", "a/b/c"]
        assert await vault.names("a/b/") == ["a/b/c"]
        assert await vault.names("a//") == ["a//b"]
        assert await vault.names("/") == ["/", "//"]
        assert await vault.names("none/") == []
        assert await vault.names(after="a/b", limit=2) == ["a/b/c", "a=b"]
        await vault.store("a", given(b"new"))
        assert await read(vault, "a") == b"new"
        await vault.delete("a")
        for again in (vault.retrieve("a"), vault.delete("a"), vault.retrieve("none")):
            with pytest.raises(UnknownObjectError):
                await again
        assert await read(vault, "a/b") == b"a/b"

    run(work())


def test_what_breaks_off_leaves_what_was_there(vault: Vault) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield os.urandom(9 * 1024 * 1024)
        raise ConnectionResetError

    async def endless() -> AsyncIterator[bytes]:
        yield b"x" * 9 * 1024 * 1024
        await asyncio.Event().wait()

    async def work() -> None:
        await vault.store("name", given(b"old"))
        before = await kept(vault)
        with pytest.raises(ConnectionResetError):
            await vault.store("name", broken())
        task = asyncio.ensure_future(vault.store("name", endless()))
        await asyncio.wait([task], timeout=0.5)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert await read(vault, "name") == b"old"
        assert await kept(vault) == before

    run(work())


def test_no_name_no_key(vault: Vault, url: str, tmp_path: Path) -> None:
    async def work() -> None:
        for name in ("", "x" * 1000):
            for call in (vault.store(name, given(b"")), vault.retrieve(name), vault.delete(name)):
                with pytest.raises(InvalidNameError):
                    await call
        await vault.store("name", given(b"content"))
        keyring.create(tmp_path / "other")
        with pytest.raises(TamperedError, match="which is not in VAULT_KEY_FILE"):
            await create(url, "unused", str(tmp_path / "other")).retrieve("name")

    run(work())


async def change(vault: Vault, name: str, other: str, chance: random.Random) -> None:
    """Do something to what the store keeps of one object."""
    place = vault.place
    mine, theirs = await blob(vault, name), await blob(vault, other)
    path = chance.choice([pointer_path(name), blob_path(mine), blob_path(mine), key_path(mine)])
    content = bytearray(await place.get(path))
    kind = chance.choice(["flip", "cut", "more", "remove", "swap", "rename"])
    if kind == "flip":
        at = chance.randrange(len(content) * 8)
        content[at // 8] ^= 1 << at % 8
    elif kind == "cut":
        del content[chance.randrange(len(content)) :]
    elif kind == "more":
        content += os.urandom(chance.randrange(1, 100))
    elif kind == "remove":
        await place.remove(path)
        return
    elif kind == "swap":  # two chunks, or with another object's
        path = blob_path(mine)
        content = bytearray(await place.get(path))
        step = CHUNK_BYTES + 28
        first, second = slice(12, 12 + step), slice(12 + step, 12 + 2 * step)
        if len(content) > 12 + 2 * step:
            content[first], content[second] = content[second], content[first]
        else:
            content = bytearray(await place.get(blob_path(theirs)))
    else:
        path, content = pointer_path(name), bytearray(await place.get(pointer_path(other)))
    await place.put(path, bytes(content))


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_changed_in_the_store_is_refused(seed: int, vault: Vault, url: str) -> None:
    """1,000 random objects in a folder, and some in S3: after one change each is refused, and no wrong byte is given."""
    chance = random.Random(seed)

    async def refused(name: str) -> bytes:
        got = bytearray()
        try:
            async for piece in (await vault.retrieve(name)).pieces():
                got += piece
        except TamperedError:
            return bytes(got)
        except UnknownObjectError:
            # A pointer that was removed is an object that was deleted: nobody can tell the two apart.
            assert pointer_path(name) not in await kept(vault, "objects")
            return b""
        pytest.fail(f"{name} was given out")

    async def work() -> None:
        contents = {}
        for number in range(TAMPERED if url.startswith("file:") else TAMPERED // 10):
            size = 2 * CHUNK_BYTES + chance.randrange(1000) if number % 25 == 0 else chance.randrange(3000)
            contents[f"object/{number}"] = os.urandom(size)
            await vault.store(f"object/{number}", given(contents[f"object/{number}"]))
        await vault.store("whole", given(b"whole"))
        for name, content in contents.items():
            await change(vault, name, "whole", chance)
            assert content.startswith(await refused(name))
        assert await read(vault, "whole") == b"whole"

    run(work())


def test_writers_at_once_lose_nothing(vault: Vault) -> None:
    async def work() -> None:
        async def write(number: int) -> None:
            for turn in range(5):
                await vault.store(f"own/{number}", given(f"{number} {turn}".encode()))
                await vault.store("shared", given(f"{number} {turn}".encode()))
                assert re.fullmatch(rb"\d+ \d", await read(vault, "shared"))

        await asyncio.gather(*(write(number) for number in range(10)))
        for number in range(10):
            assert await read(vault, f"own/{number}") == f"{number} 4".encode()

    run(work())


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
        upkeep = Upkeep(vault, snapshots, lambda: True)
        assert await upkeep.clean(grace=0) == 0
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
        assert await upkeep.clean(grace=0) == 2  # what object/0 and object/1 were
        assert await vault.names() == names

    run(work())


def test_a_restore_that_died_is_finished_and_one_without_a_snapshot_given_up(vault: Vault) -> None:
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
        await Upkeep(vault, snapshots, lambda: True).turn()
        assert await snapshots.restoring() is None
        assert [await read(vault, name) for name in await vault.names()] == [b"old"] * 10
        await snapshots.request(taken.id)
        await snapshots.delete(taken.id)
        await Upkeep(vault, snapshots, lambda: True).turn()
        assert await snapshots.restoring() is None
        await vault.store("object/0", given(b"again"))

    run(work())


def test_a_changed_snapshot_is_refused(vault: Vault) -> None:
    async def work() -> None:
        snapshots = Snapshots(vault)
        await vault.store("name", given(b"content"))
        taken = await snapshots.backup()
        path = f"snapshots/{taken.id}"
        whole = await vault.place.get(path)
        for at in range(0, len(whole) * 8, 7):
            changed = bytearray(whole)
            changed[at // 8] ^= 1 << at % 8
            await vault.place.put(path, bytes(changed))
            with pytest.raises(TamperedError):
                await snapshots.request(taken.id)
        assert await snapshots.restoring() is None

    run(work())


def test_upkeep_removes_what_nothing_needs_and_that_alone(vault: Vault) -> None:
    async def work() -> None:
        upkeep = Upkeep(vault, Snapshots(vault), lambda: True)
        for number in range(5):
            await vault.store(f"object/{number}", given(b"old"))
        old = [await blob(vault, f"object/{number}") for number in range(5)]
        for number in range(3):
            await vault.store(f"object/{number}", given(b"new"))
        await vault.delete("object/3")
        assert await upkeep.clean() == 0, "somebody may be reading it still"
        assert await upkeep.clean(grace=0) == 4
        assert await upkeep.clean(grace=0) == 0
        left = await kept(vault, BLOBS) | await kept(vault, DATA_KEYS)
        assert [blob_path(each) in left for each in old] == [False, False, False, False, True]
        assert len(left) == 8
        for number in (0, 1, 2, 4):
            assert await read(vault, f"object/{number}") == (b"old" if number == 4 else b"new")

    run(work())


def test_a_reader_of_what_is_replaced_and_removed_gets_one_of_both(vault: Vault) -> None:
    async def work() -> None:
        await vault.store("name", given(b"old"))
        upkeep = Upkeep(vault, Snapshots(vault), lambda: True)
        inner = vault.place.get

        async def get(path: str) -> bytes:
            if path.startswith(DATA_KEYS):  # between the pointer and the key
                vault.place.get = inner  # type: ignore[method-assign]
                await vault.store("name", given(b"new"))
                await upkeep.clean(grace=0)
            return await inner(path)

        vault.place.get = get  # type: ignore[method-assign]
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
            assert keyring.wrapping_key(await vault.place.get(path)) == number
        assert keyring.forget(key_file) == 1
        for name in [f"object/{number}" for number in range(20)] + [f"used/{turn}" for turn in range(turns)]:
            assert await read(vault, name) == b"content"

    run(work())


def test_the_store_itself_says_how_much_it_holds(vault: Vault) -> None:
    async def work() -> None:
        from monitoring import metrics

        upkeep = Upkeep(vault, Snapshots(vault), lambda: True)
        for number in range(3):
            await vault.store(f"object/{number}", given(b"x" * 1000))
        await upkeep.measure()
        assert metrics.sigmavault_objects_total._value.get() == 3
        assert metrics.sigmavault_storage_bytes_total._value.get() == 3 * (1000 + 12 + 28)

    run(work())


def test_what_died_half_way_is_removed_after_a_day(key_file: Path, tmp_path: Path) -> None:
    async def work() -> None:
        vault = create((tmp_path / "vault").as_uri(), "unused", str(key_file))
        await vault.store("name#1", given(b"content"))
        staged = tmp_path / "vault" / BLOBS / "ab#1"
        staged.write_bytes(b"half")
        assert await vault.place.clean(staged.stat().st_mtime - 1) == 0
        assert await vault.place.clean(staged.stat().st_mtime + 1) == 1
        assert not staged.exists()
        assert await read(vault, "name#1") == b"content"

    run(work())


def test_a_store_that_is_away_or_full(url: str, key_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if url.startswith("s3:"):
        monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:1")
    else:
        (tmp_path / "a vault").write_bytes(b"no folder")
    vault = create(url, "unused", str(key_file))
    for call in (vault.retrieve("name"), vault.store("name", given(b"content")), vault.delete("name"), vault.names()):
        with pytest.raises(UnavailableError) as caught:
            run(call)
        assert "\n" not in str(caught.value)


def test_a_full_disk_refuses_and_keeps_what_was_there(key_file: Path, small_disk: Path) -> None:
    async def work() -> None:
        vault = create((small_disk / "vault").as_uri(), "unused", str(key_file))
        await vault.store("name", given(b"old"))
        before = await kept(vault)
        with pytest.raises(StorageFullError, match="no room left"):
            await vault.store("name", given(*[os.urandom(1024 * 1024)] * 32))
        assert await read(vault, "name") == b"old"
        assert await kept(vault) == before
        assert not [path for path in (small_disk / "vault").rglob("*") if "#" in path.name]
        # The store's own thread may hold the removed file, and its room, for a moment longer.
        for left in reversed(range(600)):
            try:
                await vault.store("name", given(b"new"))
                break
            except StorageFullError:
                assert left, "no room came back"
                await asyncio.sleep(0.1)

    run(work())


def test_gone_is_not_away(vault: Vault) -> None:
    async def work() -> None:
        with pytest.raises(MissingError):
            await vault.place.get(RESTORING)
        await vault.place.remove("nothing/here")

    run(work())
