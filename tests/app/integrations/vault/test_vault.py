"""Objects in a folder and in a real S3 server: stored, replaced, listed and deleted, whole or not at all."""

from __future__ import annotations

import asyncio
import os
import re
from typing import TYPE_CHECKING

import pytest

from app.integrations.vault import (
    InvalidNameError,
    TamperedError,
    UnknownObjectError,
    Vault,
    create,
    keyring,
)
from app.integrations.vault.encryption import CHUNK_BYTES

from .conftest import given, kept, read, run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SIZES = (0, 1, 1000, CHUNK_BYTES, 3 * CHUNK_BYTES + 1)


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
            assert b"secret" not in await vault.storage.get(path)

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
