"""The store of objects: away, full, and without what is asked for."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from app.integrations.vault import (
    StorageFullError,
    UnavailableError,
    Vault,
    create,
)
from app.integrations.vault.object_storage import MissingError
from app.integrations.vault.vault import RESTORING

from .conftest import given, kept, read, run

if TYPE_CHECKING:
    from pathlib import Path


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
        with pytest.raises(StorageFullError, match="the store is full"):
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
            await vault.storage.get(RESTORING)
        await vault.storage.remove("nothing/here")

    run(work())
